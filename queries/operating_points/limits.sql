-- Energy and time of every configuration at every power limit, repeated runs averaged.
-- parameters: none
-- columns: device_name VARCHAR, configuration VARCHAR, power_limit_w DOUBLE, energy_j DOUBLE, duration_s DOUBLE, runs BIGINT
SELECT
  COALESCE(device_name, '') AS device_name,
  COALESCE(model, '') || ' ' || COALESCE(workload, '') || ' ' || COALESCE(CAST(devices AS VARCHAR), '') || ' ' || COALESCE(CAST(tensor_parallel AS VARCHAR), '')
    || ' ' || COALESCE(CAST(batch_size AS VARCHAR), '') || ' ' || COALESCE(extra, '') AS configuration,
  power_limit_w,
  AVG(energy_j) AS energy_j,
  AVG(duration_s) AS duration_s,
  COUNT(*) AS runs
FROM operating_points
WHERE power_limit_w > 0 AND energy_j > 0 AND duration_s > 0
GROUP BY
  COALESCE(device_name, ''),
  COALESCE(model, '') || ' ' || COALESCE(workload, '') || ' ' || COALESCE(CAST(devices AS VARCHAR), '') || ' ' || COALESCE(CAST(tensor_parallel AS VARCHAR), '')
    || ' ' || COALESCE(CAST(batch_size AS VARCHAR), '') || ' ' || COALESCE(extra, ''),
  power_limit_w
ORDER BY device_name, configuration, power_limit_w
