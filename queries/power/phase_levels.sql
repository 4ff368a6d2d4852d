-- Power by the phase that the source recorded for each reading.
-- parameters: none
-- columns: domain VARCHAR, reading VARCHAR, phase VARCHAR, readings BIGINT, mean_w DOUBLE, sd_w DOUBLE
SELECT domain, reading, phase, COUNT(*) AS readings, AVG(power_w) AS mean_w, STDDEV_POP(power_w) AS sd_w
FROM (
  SELECT
    domain,
    CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END AS reading,
    phase,
    power_w
  FROM power_samples
  WHERE power_w >= 0 AND phase IS NOT NULL
)
GROUP BY domain, reading, phase
ORDER BY domain, reading, phase
