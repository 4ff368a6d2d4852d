-- Invocations of all functions in windows of time, from rows or from counts. Windows without a row held none.
-- parameters: $origin_ns start of the first window; $width_ns width of a window; $binned whether the trace holds counts per bin
-- columns: k BIGINT, n BIGINT
SELECT k, CAST(SUM(n) AS BIGINT) AS n
FROM (
  SELECT (arrival_ns - $origin_ns) // $width_ns AS k, 1 AS n
  FROM invocations
  WHERE arrival_ns IS NOT NULL AND NOT $binned
  UNION ALL
  SELECT (arrival_ns - $origin_ns) // $width_ns AS k, invocations AS n
  FROM invocation_counts
  WHERE $binned
)
GROUP BY k
ORDER BY k
