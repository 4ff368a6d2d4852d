-- Durations of invocations, their waiting and their init, as frequency tables, 256 bins a factor of e; zeros included.
-- parameters: none
-- columns: measure VARCHAR, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
SELECT measure, MIN(x) AS lo_s, MAX(x) AS hi_s, COUNT(*) AS n, SUM(x) AS total_s
FROM (
  SELECT measure, x, CASE WHEN x > 0 THEN FLOOR(LN(x) * 256) END AS bin
  FROM (
    SELECT 'duration' AS measure, duration_s AS x FROM invocations
    UNION ALL
    SELECT 'queue' AS measure, queue_s AS x FROM invocations
    UNION ALL
    SELECT 'init' AS measure, init_s AS x FROM invocations
  )
  WHERE x >= 0
)
GROUP BY measure, bin
ORDER BY measure, lo_s
