-- What pods are used for: the time from being ready to the end of the last request, over the time of the cold start, of pods
-- whose requests are recorded. Ended 0: the last request ends so late that the pod may still live on. Pods by both, 32 bins a
-- factor of e of the useful time and 64 of the ratio, with sums of the useful seconds, the ratio and the cold-start seconds.
-- parameters: $alive_ns from when on a pod may live on (the end of what was observed less the keep-alive)
-- columns: ended BIGINT, n BIGINT, useful_s DOUBLE, ratio DOUBLE, cold_s DOUBLE
WITH used AS (
  SELECT
    pod_id,
    MAX(arrival_ns + CAST(FLOOR(COALESCE(duration_s, e2e_s, 0) * 1e9) AS BIGINT)) AS last_end_ns
  FROM invocations
  WHERE arrival_ns IS NOT NULL AND pod_id IS NOT NULL
  GROUP BY pod_id
),
started AS (
  SELECT pod_id, MIN(arrival_ns) AS arrival_ns, MIN(total_s) AS cold_s
  FROM cold_starts
  WHERE pod_id IS NOT NULL AND total_s > 0 AND arrival_ns IS NOT NULL
  GROUP BY pod_id
),
pods AS (
  SELECT
    CASE WHEN u.last_end_ns > $alive_ns THEN 0 ELSE 1 END AS ended,
    s.cold_s,
    GREATEST(CAST(GREATEST(u.last_end_ns - s.arrival_ns, 0) AS DOUBLE) / 1e9 - s.cold_s, CAST(0 AS DOUBLE)) AS useful_s
  FROM started AS s
  JOIN used AS u ON s.pod_id = u.pod_id
)
SELECT CAST(ended AS BIGINT) AS ended, COUNT(*) AS n, SUM(useful_s) AS useful_s, SUM(useful_s / cold_s) AS ratio, SUM(cold_s) AS cold_s
FROM (
  SELECT
    ended,
    useful_s,
    cold_s,
    CASE WHEN useful_s > 0 THEN FLOOR(LN(useful_s) * 32) END AS useful_bin,
    CASE WHEN useful_s > 0 THEN FLOOR(LN(useful_s / cold_s) * 64) END AS ratio_bin
  FROM pods
)
GROUP BY ended, useful_bin, ratio_bin
ORDER BY ended, useful_bin, ratio_bin
