-- How long before an instant each function (or application) ended its last request: its idle time that the end of the
-- trace cuts off. A frequency table, 256 bins a factor of e.
-- parameters: $per_app whether applications and not functions are kept alive; $end_ns that instant
-- columns: lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH last AS (
  SELECT
    CASE WHEN $per_app THEN app_id ELSE func_id END AS entity,
    MAX(arrival_ns + CAST(FLOOR(COALESCE(duration_s, 0) * 1e9) AS BIGINT)) AS end_ns
  FROM invocations
  WHERE arrival_ns IS NOT NULL
  GROUP BY CASE WHEN $per_app THEN app_id ELSE func_id END
),
idle AS (
  SELECT CASE WHEN end_ns < $end_ns THEN CAST($end_ns - end_ns AS DOUBLE) / 1e9 ELSE CAST(0 AS DOUBLE) END AS idle_s
  FROM last
  WHERE entity IS NOT NULL
)
SELECT MIN(idle_s) AS lo_s, MAX(idle_s) AS hi_s, COUNT(*) AS n, SUM(idle_s) AS total_s
FROM (SELECT idle_s, CASE WHEN idle_s > 0 THEN FLOOR(LN(idle_s) * 256) END AS bin FROM idle)
GROUP BY bin
ORDER BY lo_s
