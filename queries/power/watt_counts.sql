-- Power readings rounded to hundredths of a watt, as a frequency table over the devices of a domain. Averaged and
-- instant readings apart.
-- parameters: none
-- columns: domain VARCHAR, reading VARCHAR, centiwatts BIGINT, n BIGINT
SELECT domain, reading, centiwatts, COUNT(*) AS n
FROM (
  SELECT
    domain,
    CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END AS reading,
    CAST(FLOOR(power_w * 100 + 0.5) AS BIGINT) AS centiwatts
  FROM power_samples
  WHERE power_w IS NOT NULL
)
GROUP BY domain, reading, centiwatts
ORDER BY domain, reading, centiwatts
