-- Energy a token by batch size within each group of configurations that differ in nothing else recorded.
-- parameters: none
-- columns: device_name VARCHAR, model VARCHAR, workload VARCHAR, devices BIGINT, tensor_parallel BIGINT, batch_size BIGINT, energy_per_token_j DOUBLE, throughput_tps DOUBLE, mean_power_w DOUBLE, runs BIGINT
SELECT
  COALESCE(device_name, '') AS device_name,
  COALESCE(model, '') AS model,
  COALESCE(workload, '') AS workload,
  CAST(devices AS BIGINT) AS devices,
  CAST(tensor_parallel AS BIGINT) AS tensor_parallel,
  CAST(batch_size AS BIGINT) AS batch_size,
  AVG(energy_per_token_j) AS energy_per_token_j,
  AVG(throughput_tps) AS throughput_tps,
  AVG(mean_power_w) AS mean_power_w,
  COUNT(*) AS runs
FROM operating_points
WHERE energy_per_token_j > 0 AND batch_size IS NOT NULL
GROUP BY COALESCE(device_name, ''), COALESCE(model, ''), COALESCE(workload, ''), devices, tensor_parallel, batch_size
ORDER BY device_name, model, workload, devices, tensor_parallel, batch_size
