-- Jobs, their GPU seconds and their node seconds by state and by the window in which they were submitted; window -1: no time.
-- GPU seconds are GPUs times duration where they are not recorded themselves.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, state VARCHAR, n BIGINT, gpu_s DOUBLE, node_s DOUBLE
SELECT k, state, COUNT(*) AS n, COALESCE(SUM(gpu_s), 0) AS gpu_s, COALESCE(SUM(node_s), 0) AS node_s
FROM (
  SELECT
    CASE WHEN arrival_ns IS NULL THEN -1 ELSE (arrival_ns - $origin_ns) // $width_ns END AS k,
    state,
    COALESCE(gpu_s, gpus * duration_s) AS gpu_s,
    nodes * duration_s AS node_s
  FROM jobs
)
GROUP BY k, state
ORDER BY k, state
