-- Gaps between the starts of successive invocations of a function, by the window of the later one, 16 bins a factor of
-- e; zero gaps are bin -1000.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, bin BIGINT, n BIGINT, total_s DOUBLE
WITH gaps AS (
  SELECT
    (arrival_ns - $origin_ns) // $width_ns AS k,
    CAST(arrival_ns - LAG(arrival_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns, row_id) AS DOUBLE) / 1e9 AS gap_s
  FROM invocations
  WHERE arrival_ns IS NOT NULL
)
SELECT k, bin, COUNT(*) AS n, SUM(gap_s) AS total_s
FROM (
  SELECT k, gap_s, CASE WHEN gap_s > 0 THEN CAST(FLOOR(LN(gap_s) * 16) AS BIGINT) ELSE -1000 END AS bin
  FROM gaps
  WHERE gap_s IS NOT NULL
)
GROUP BY k, bin
ORDER BY k, bin
