-- Peak and mean power as a fraction of the rated power, by one dimension of the configuration at a time.
-- parameters: none
-- columns: device_name VARCHAR, dimension VARCHAR, level DOUBLE, peak_frac DOUBLE, mean_frac DOUBLE, runs BIGINT
WITH points AS (
  SELECT COALESCE(device_name, '') AS device_name, tensor_parallel, batch_size, input_tokens, peak_power_frac, mean_power_frac
  FROM operating_points
  WHERE peak_power_frac IS NOT NULL OR mean_power_frac IS NOT NULL
),
levels AS (
  SELECT device_name, 'tensor_parallel' AS dimension, CAST(tensor_parallel AS DOUBLE) AS level, peak_power_frac, mean_power_frac
  FROM points
  WHERE tensor_parallel IS NOT NULL
  UNION ALL
  SELECT device_name, 'batch_size' AS dimension, CAST(batch_size AS DOUBLE) AS level, peak_power_frac, mean_power_frac
  FROM points
  WHERE batch_size IS NOT NULL
  UNION ALL
  SELECT device_name, 'input_tokens' AS dimension, input_tokens AS level, peak_power_frac, mean_power_frac
  FROM points
  WHERE input_tokens IS NOT NULL
)
SELECT device_name, dimension, level, AVG(peak_power_frac) AS peak_frac, AVG(mean_power_frac) AS mean_frac, COUNT(*) AS runs
FROM levels
GROUP BY device_name, dimension, level
ORDER BY device_name, dimension, level
