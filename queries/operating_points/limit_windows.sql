-- Windows that Zeus' power-limit optimizer measured, each at the limit that ends its label, on the same work.
-- parameters: none
-- columns: host VARCHAR, device VARCHAR, label VARCHAR, energy_j DOUBLE, duration_s DOUBLE
SELECT COALESCE(host, '') AS host, device, label, AVG(energy_j) AS energy_j, AVG(duration_s) AS duration_s
FROM power_windows
WHERE label LIKE '%GlobalPowerLimitOptimizer%' AND energy_j > 0 AND duration_s > 0
GROUP BY COALESCE(host, ''), device, label
ORDER BY host, device, label
