-- How often a metric was scraped: the median step between samples of one series, and from when to when.
-- parameters: $metric name; $label what the labels must be like
-- columns: series BIGINT, samples BIGINT, step_ns DOUBLE, first_ns BIGINT, last_ns BIGINT
WITH samples AS (
  SELECT
    COALESCE(labels, '') || ' ' || COALESCE(host, '') || ' ' || COALESCE(CAST(le AS VARCHAR), '') AS series,
    arrival_ns,
    row_id
  FROM metric_series
  WHERE metric = $metric AND COALESCE(labels, '') LIKE CAST($label AS VARCHAR) AND value IS NOT NULL AND arrival_ns IS NOT NULL
),
steps AS (
  SELECT series, arrival_ns, arrival_ns - LAG(arrival_ns) OVER (PARTITION BY series ORDER BY arrival_ns, row_id) AS step_ns
  FROM samples
)
SELECT
  COUNT(DISTINCT series) AS series,
  COUNT(*) AS samples,
  MEDIAN(CASE WHEN step_ns > 0 THEN step_ns END) AS step_ns,
  MIN(arrival_ns) AS first_ns,
  MAX(arrival_ns) AS last_ns
FROM steps
