-- Durations of invocations by window of time, 16 bins a factor of e; zeros are bin -1000.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, bin BIGINT, n BIGINT, total_s DOUBLE
SELECT k, bin, COUNT(*) AS n, SUM(x) AS total_s
FROM (
  SELECT
    (arrival_ns - $origin_ns) // $width_ns AS k,
    duration_s AS x,
    CASE WHEN duration_s > 0 THEN CAST(FLOOR(LN(duration_s) * 16) AS BIGINT) ELSE -1000 END AS bin
  FROM invocations
  WHERE arrival_ns IS NOT NULL AND duration_s >= 0
)
GROUP BY k, bin
ORDER BY k, bin
