-- How much each bucket of a histogram grew, by source (labels and host), which may have bounds of its own, and by
-- window (to whose end the step that ends in it belongs). Bounds are cumulative; null is +Inf. A value below the one before is a reset: it counts from 0.
-- parameters: $metric name, its buckets'; $label what the labels must be like; $origin_ns first scrape; $width_ns width of a window; $longest_ns longest step that counts
-- columns: source VARCHAR, le DOUBLE, k BIGINT, n DOUBLE, resets BIGINT
WITH samples AS (
  SELECT COALESCE(labels, '') || ' ' || COALESCE(host, '') AS source, le, arrival_ns, value, row_id
  FROM metric_series
  WHERE metric = $metric AND COALESCE(labels, '') LIKE CAST($label AS VARCHAR) AND value IS NOT NULL AND arrival_ns IS NOT NULL
),
steps AS (
  SELECT
    source,
    le,
    arrival_ns,
    value,
    LAG(value) OVER (PARTITION BY source, le ORDER BY arrival_ns, row_id) AS before,
    arrival_ns - LAG(arrival_ns) OVER (PARTITION BY source, le ORDER BY arrival_ns, row_id) AS step_ns
  FROM samples
)
SELECT
  source,
  le,
  (arrival_ns - $origin_ns - 1) // $width_ns AS k,
  SUM(CASE WHEN value >= before THEN value - before ELSE value END) AS n,
  COUNT(CASE WHEN value < before THEN 1 END) AS resets
FROM steps
WHERE step_ns > 0 AND step_ns <= $longest_ns
GROUP BY source, le, (arrival_ns - $origin_ns - 1) // $width_ns
ORDER BY source, le, k
