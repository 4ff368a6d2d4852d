-- What the configurations of each device say: power of one device, energy a token, how well the two measures of it
-- agree, and readings above the limit that was set.
-- parameters: none
-- columns: device_name VARCHAR, configurations BIGINT, median_w DOUBLE, least_j_per_token DOUBLE, identity_error DOUBLE, limited BIGINT, over_limit BIGINT
SELECT
  COALESCE(device_name, '') AS device_name,
  COUNT(*) AS configurations,
  MEDIAN(mean_power_w / devices) AS median_w,
  MIN(energy_per_token_j) AS least_j_per_token,
  MAX(ABS(mean_power_w / throughput_tps - energy_per_token_j) / energy_per_token_j) AS identity_error,
  COUNT(CASE WHEN power_limit_w > 0 AND mean_power_w IS NOT NULL THEN 1 END) AS limited,
  COUNT(CASE WHEN mean_power_w > power_limit_w THEN 1 END) AS over_limit
FROM operating_points
GROUP BY COALESCE(device_name, '')
ORDER BY device_name
