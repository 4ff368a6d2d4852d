-- Readings of each device, and the median step between them: the sampling period. Averaged and instant readings
-- of one device are two devices here, since they are never mixed.
-- parameters: none
-- columns: host VARCHAR, device VARCHAR, domain VARCHAR, reading VARCHAR, readings BIGINT, first_ns BIGINT, last_ns BIGINT, period_ns DOUBLE, counted BIGINT
WITH samples AS (
  SELECT
    COALESCE(host, '') AS host,
    device,
    domain,
    CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END AS reading,
    arrival_ns,
    energy_j,
    arrival_ns - LAG(arrival_ns) OVER (PARTITION BY host, device, domain, is_average ORDER BY arrival_ns, row_id) AS step_ns
  FROM power_samples
  WHERE power_w >= 0 AND arrival_ns IS NOT NULL
)
SELECT
  host,
  device,
  domain,
  reading,
  COUNT(*) AS readings,
  MIN(arrival_ns) AS first_ns,
  MAX(arrival_ns) AS last_ns,
  MEDIAN(CASE WHEN step_ns > 0 THEN step_ns END) AS period_ns,
  COUNT(energy_j) AS counted
FROM samples
GROUP BY host, device, domain, reading
ORDER BY host, device, domain, reading
