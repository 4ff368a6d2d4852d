-- Power readings rounded to hundredths of a watt, as a frequency table over all devices.
-- parameters: none
-- columns: centiwatts BIGINT, n BIGINT
SELECT CAST(FLOOR(power_w * 100 + 0.5) AS BIGINT) AS centiwatts, COUNT(*) AS n
FROM power_samples
WHERE power_w IS NOT NULL
GROUP BY CAST(FLOOR(power_w * 100 + 0.5) AS BIGINT)
ORDER BY centiwatts
