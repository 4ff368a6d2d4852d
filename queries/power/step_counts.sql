-- Steps between successive samples of a device, as a frequency table: the sampling period and its gaps.
-- parameters: none
-- columns: step_ns BIGINT, n BIGINT
SELECT step_ns, COUNT(*) AS n
FROM (
  SELECT arrival_ns - LAG(arrival_ns) OVER (PARTITION BY host, device, domain ORDER BY arrival_ns, row_id) AS step_ns
  FROM power_samples
  WHERE power_w IS NOT NULL AND arrival_ns IS NOT NULL
)
WHERE step_ns > 0
GROUP BY step_ns
ORDER BY step_ns
