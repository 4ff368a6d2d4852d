-- How long jobs ran and how long they waited, as frequency tables, 256 bins a factor of e; the ends of a bin are values of
-- it. Ended 0: seen up to an instant only (still running, still waiting).
-- parameters: $end_ns the end of what was observed
-- columns: measure VARCHAR, ended BIGINT, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH times AS (
  SELECT
    'duration' AS measure,
    CASE WHEN state = 'censored' THEN 0 ELSE 1 END AS ended,
    CASE
      WHEN duration_s IS NOT NULL THEN duration_s
      WHEN state = 'censored' THEN CAST($end_ns - start_ns AS DOUBLE) / 1e9
    END AS x
  FROM jobs
  UNION ALL
  SELECT
    'queue' AS measure,
    CASE WHEN queue_s IS NULL THEN 0 ELSE 1 END AS ended,
    CASE
      WHEN queue_s IS NOT NULL THEN queue_s
      WHEN state = 'censored' AND start_ns IS NULL THEN CAST($end_ns - arrival_ns AS DOUBLE) / 1e9
    END AS x
  FROM jobs
)
SELECT measure, CAST(ended AS BIGINT) AS ended, MIN(x) AS lo_s, MAX(x) AS hi_s, COUNT(*) AS n, SUM(x) AS total_s
FROM (SELECT measure, ended, x, CASE WHEN x > 0 THEN FLOOR(LN(x) * 256) END AS bin FROM times WHERE x >= 0)
GROUP BY measure, ended, bin
ORDER BY measure, ended, lo_s
