-- Gaps between the starts of successive invocations of a function, zero gaps included: a frequency table, 256 bins a
-- factor of e. Share: the same with every function weighing 1, its gaps sharing that.
-- parameters: none
-- columns: lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE, share DOUBLE, share_total_s DOUBLE
WITH gaps AS (
  SELECT func_id, CAST(arrival_ns - LAG(arrival_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns, row_id) AS DOUBLE) / 1e9 AS gap_s
  FROM invocations
  WHERE arrival_ns IS NOT NULL
),
weighed AS (
  SELECT gap_s, CAST(1 AS DOUBLE) / COUNT(*) OVER (PARTITION BY func_id) AS weight
  FROM gaps
  WHERE gap_s IS NOT NULL
)
SELECT
  MIN(gap_s) AS lo_s,
  MAX(gap_s) AS hi_s,
  COUNT(*) AS n,
  SUM(gap_s) AS total_s,
  SUM(weight) AS share,
  SUM(weight * gap_s) AS share_total_s
FROM (SELECT gap_s, weight, CASE WHEN gap_s > 0 THEN FLOOR(LN(gap_s) * 256) END AS bin FROM weighed)
GROUP BY bin
ORDER BY lo_s
