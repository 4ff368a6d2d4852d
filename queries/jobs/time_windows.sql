-- How long jobs ran and waited, by the window in which they were submitted, 16 bins a factor of e; zeros are bin -1000.
-- Jobs that did not end take no part.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: measure VARCHAR, k BIGINT, bin BIGINT, n BIGINT, total_s DOUBLE
WITH times AS (
  SELECT 'duration' AS measure, (arrival_ns - $origin_ns) // $width_ns AS k, duration_s AS x
  FROM jobs
  WHERE arrival_ns IS NOT NULL AND state <> 'censored' AND duration_s >= 0
  UNION ALL
  SELECT 'queue' AS measure, (arrival_ns - $origin_ns) // $width_ns AS k, queue_s AS x
  FROM jobs
  WHERE arrival_ns IS NOT NULL AND queue_s >= 0
)
SELECT measure, k, bin, COUNT(*) AS n, SUM(x) AS total_s
FROM (SELECT measure, k, x, CASE WHEN x > 0 THEN CAST(FLOOR(LN(x) * 16) AS BIGINT) ELSE -1000 END AS bin FROM times)
GROUP BY measure, k, bin
ORDER BY measure, k, bin
