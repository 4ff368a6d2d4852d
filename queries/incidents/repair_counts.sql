-- How long incidents lasted, as a frequency table, 256 bins a factor of e. Ended 0: seen up to an instant only.
-- parameters: $end_ns the end of what was observed
-- columns: ended BIGINT, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH times AS (
  SELECT
    CASE WHEN censored THEN 0 ELSE 1 END AS ended,
    CAST(CASE WHEN censored THEN COALESCE(end_ns, $end_ns) ELSE end_ns END - arrival_ns AS DOUBLE) / 1e9 AS x
  FROM incidents
)
SELECT CAST(ended AS BIGINT) AS ended, MIN(x) AS lo_s, MAX(x) AS hi_s, COUNT(*) AS n, SUM(x) AS total_s
FROM (SELECT ended, x, CASE WHEN x > 0 THEN FLOOR(LN(x) * 256) END AS bin FROM times WHERE x >= 0)
GROUP BY ended, bin
ORDER BY ended, lo_s
