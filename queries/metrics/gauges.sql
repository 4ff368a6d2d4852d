-- A gauge by window: its mean and highest value, over the series that report.
-- parameters: $metric name; $label what the labels must be like; $origin_ns first scrape; $width_ns width of a window
-- columns: k BIGINT, mean DOUBLE, highest DOUBLE, samples BIGINT, series BIGINT
SELECT
  (arrival_ns - $origin_ns) // $width_ns AS k,
  AVG(value) AS mean,
  MAX(value) AS highest,
  COUNT(*) AS samples,
  COUNT(DISTINCT COALESCE(labels, '') || ' ' || COALESCE(host, '')) AS series
FROM metric_series
WHERE metric = $metric AND COALESCE(labels, '') LIKE CAST($label AS VARCHAR) AND value IS NOT NULL AND arrival_ns IS NOT NULL
GROUP BY (arrival_ns - $origin_ns) // $width_ns
ORDER BY k
