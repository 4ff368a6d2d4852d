-- Gaps between successive submissions, zero gaps included: a frequency table, 256 bins a factor of e; the ends of a bin are
-- values of it.
-- parameters: none
-- columns: lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH gaps AS (
  SELECT CAST(arrival_ns - LAG(arrival_ns) OVER (ORDER BY arrival_ns, row_id) AS DOUBLE) / 1e9 AS gap_s
  FROM jobs
  WHERE arrival_ns IS NOT NULL
)
SELECT MIN(gap_s) AS lo_s, MAX(gap_s) AS hi_s, COUNT(*) AS n, SUM(gap_s) AS total_s
FROM (SELECT gap_s, CASE WHEN gap_s > 0 THEN FLOOR(LN(gap_s) * 256) END AS bin FROM gaps WHERE gap_s IS NOT NULL)
GROUP BY bin
ORDER BY lo_s
