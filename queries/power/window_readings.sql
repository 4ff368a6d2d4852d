-- Named windows, each with the readings of its device strictly inside and those outside. The plain mean of readings
-- above 0 with begin < t < end is the official average of an MLPerf power run (mlcommons/power-dev).
-- parameters: $most windows at most, those with the most readings first
-- columns: label VARCHAR, host VARCHAR, device VARCHAR, domain VARCHAR, reading VARCHAR, begin_ns BIGINT, end_ns BIGINT, duration_s DOUBLE, energy_j DOUBLE, recorded_w DOUBLE, inside BIGINT, mean_w DOUBLE, peak_w DOUBLE, outside BIGINT, outside_w DOUBLE, extra VARCHAR
WITH windows AS (
  SELECT
    row_id,
    COALESCE(label, '') AS label,
    COALESCE(host, '') AS host,
    device,
    domain,
    arrival_ns AS begin_ns,
    arrival_ns + CAST(FLOOR(duration_s * 1000000000.0 + 0.5) AS BIGINT) AS end_ns,
    duration_s,
    energy_j,
    mean_power_w,
    extra
  FROM power_windows
  WHERE arrival_ns IS NOT NULL AND duration_s IS NOT NULL
),
samples AS (
  SELECT
    COALESCE(host, '') AS host,
    device,
    domain,
    CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END AS reading,
    arrival_ns,
    power_w
  FROM power_samples
  WHERE power_w > 0 AND arrival_ns IS NOT NULL
)
SELECT
  w.label,
  w.host,
  w.device,
  w.domain,
  s.reading,
  w.begin_ns,
  w.end_ns,
  w.duration_s,
  w.energy_j,
  w.mean_power_w AS recorded_w,
  COUNT(CASE WHEN s.arrival_ns > w.begin_ns AND s.arrival_ns < w.end_ns THEN 1 END) AS inside,
  AVG(CASE WHEN s.arrival_ns > w.begin_ns AND s.arrival_ns < w.end_ns THEN s.power_w END) AS mean_w,
  MAX(CASE WHEN s.arrival_ns > w.begin_ns AND s.arrival_ns < w.end_ns THEN s.power_w END) AS peak_w,
  COUNT(CASE WHEN s.arrival_ns <= w.begin_ns OR s.arrival_ns >= w.end_ns THEN 1 END) AS outside,
  AVG(CASE WHEN s.arrival_ns <= w.begin_ns OR s.arrival_ns >= w.end_ns THEN s.power_w END) AS outside_w,
  w.extra
FROM windows AS w
JOIN samples AS s ON w.host = s.host AND w.device = s.device AND w.domain = s.domain
GROUP BY w.row_id, w.label, w.host, w.device, w.domain, s.reading, w.begin_ns, w.end_ns, w.duration_s, w.energy_j, w.mean_power_w, w.extra
ORDER BY inside DESC, label, host, device, reading, begin_ns, w.row_id
LIMIT $most
