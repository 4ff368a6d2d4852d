-- Jobs by GPUs and state. Octave: GPUs in (2^(octave - 1), 2^octave], -1 for less than one, -2 for none.
-- parameters: none
-- columns: octave BIGINT, state VARCHAR, n BIGINT, gpu_s DOUBLE
SELECT octave, state, COUNT(*) AS n, COALESCE(SUM(gpu_s), 0) AS gpu_s
FROM (
  SELECT
    state,
    COALESCE(gpu_s, gpus * duration_s) AS gpu_s,
    CASE WHEN gpus <= 0 THEN -2 WHEN gpus < 1 THEN -1 ELSE CAST(CEIL(LOG(2, gpus)) AS BIGINT) END AS octave
  FROM jobs
  WHERE gpus IS NOT NULL
)
GROUP BY octave, state
ORDER BY octave, state
