-- How a device's readings lie below its highest: whether they pile up at a flat top, as those of a capped device do.
-- parameters: none
-- columns: host VARCHAR, device VARCHAR, domain VARCHAR, reading VARCHAR, top_w DOUBLE, readings BIGINT, within_1 BIGINT, within_3 BIGINT, within_10 BIGINT, at_top BIGINT
WITH samples AS (
  SELECT
    COALESCE(host, '') AS host,
    device,
    domain,
    CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END AS reading,
    power_w
  FROM power_samples
  WHERE power_w >= 0
),
tops AS (
  SELECT host, device, domain, reading, MAX(power_w) AS top_w
  FROM samples
  GROUP BY host, device, domain, reading
)
SELECT
  s.host,
  s.device,
  s.domain,
  s.reading,
  t.top_w,
  COUNT(*) AS readings,
  COUNT(CASE WHEN s.power_w >= 0.99 * t.top_w THEN 1 END) AS within_1,
  COUNT(CASE WHEN s.power_w >= 0.97 * t.top_w THEN 1 END) AS within_3,
  COUNT(CASE WHEN s.power_w >= 0.9 * t.top_w THEN 1 END) AS within_10,
  COUNT(CASE WHEN s.power_w = t.top_w THEN 1 END) AS at_top
FROM samples AS s
JOIN tops AS t ON s.host = t.host AND s.device = t.device AND s.domain = t.domain AND s.reading = t.reading
GROUP BY s.host, s.device, s.domain, s.reading, t.top_w
ORDER BY s.host, s.device, s.domain, s.reading
