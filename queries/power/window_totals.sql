-- Energy of the named windows of each device, where both energy and width are recorded.
-- parameters: none
-- columns: host VARCHAR, device VARCHAR, domain VARCHAR, windows BIGINT, duration_s DOUBLE, energy_j DOUBLE, least_w DOUBLE, most_w DOUBLE, peak_w DOUBLE, tokens BIGINT, requests BIGINT, token_energy_j DOUBLE, emissions_kg DOUBLE, first_ns BIGINT, last_ns BIGINT
SELECT
  COALESCE(host, '') AS host,
  device,
  domain,
  COUNT(*) AS windows,
  SUM(duration_s) AS duration_s,
  SUM(energy_j) AS energy_j,
  MIN(energy_j / duration_s) AS least_w,
  MAX(energy_j / duration_s) AS most_w,
  MAX(peak_power_w) AS peak_w,
  CAST(SUM(tokens) AS BIGINT) AS tokens,
  CAST(SUM(requests) AS BIGINT) AS requests,
  SUM(CASE WHEN tokens > 0 THEN energy_j END) AS token_energy_j,
  SUM(emissions_kg) AS emissions_kg,
  MIN(arrival_ns) AS first_ns,
  MAX(arrival_ns + CAST(FLOOR(duration_s * 1000000000.0 + 0.5) AS BIGINT)) AS last_ns
FROM power_windows
WHERE duration_s > 0 AND energy_j IS NOT NULL
GROUP BY COALESCE(host, ''), device, domain
ORDER BY host, device, domain
