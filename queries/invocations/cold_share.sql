-- Invocations that say whether they started a pod, by window of time. Rows without a time are window -1.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, n BIGINT, cold BIGINT
SELECT k, COUNT(*) AS n, CAST(SUM(CASE WHEN is_cold THEN 1 ELSE 0 END) AS BIGINT) AS cold
FROM (
  SELECT CASE WHEN arrival_ns IS NULL THEN -1 ELSE (arrival_ns - $origin_ns) // $width_ns END AS k, is_cold
  FROM invocations
  WHERE is_cold IS NOT NULL
)
GROUP BY k
ORDER BY k
