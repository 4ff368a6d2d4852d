-- What a counter counted in each scrape interval, over all its series. A value below the one before is a reset:
-- it counts from 0. Steps longer than $longest_ns are gaps, in cells of their own (k null).
-- parameters: $metric name; $label what the labels must be like; $origin_ns first scrape; $cell_ns scrape interval; $longest_ns longest step that is no gap
-- columns: k BIGINT, n DOUBLE, series BIGINT, resets BIGINT, seconds DOUBLE
WITH samples AS (
  SELECT
    COALESCE(labels, '') || ' ' || COALESCE(host, '') || ' ' || COALESCE(CAST(le AS VARCHAR), '') AS series,
    arrival_ns,
    value,
    row_id
  FROM metric_series
  WHERE metric = $metric AND COALESCE(labels, '') LIKE CAST($label AS VARCHAR) AND value IS NOT NULL AND arrival_ns IS NOT NULL
),
steps AS (
  SELECT
    series,
    arrival_ns,
    value,
    LAG(value) OVER (PARTITION BY series ORDER BY arrival_ns, row_id) AS before,
    arrival_ns - LAG(arrival_ns) OVER (PARTITION BY series ORDER BY arrival_ns, row_id) AS step_ns
  FROM samples
),
gains AS (
  SELECT
    CASE WHEN step_ns <= $longest_ns THEN (arrival_ns - $origin_ns + $cell_ns // 2) // $cell_ns END AS k,
    CASE WHEN value >= before THEN value - before ELSE value END AS n,
    CASE WHEN value < before THEN 1 END AS reset,
    step_ns / 1000000000.0 AS seconds
  FROM steps
  WHERE step_ns > 0
)
SELECT k, SUM(n) AS n, COUNT(*) AS series, COUNT(reset) AS resets, SUM(seconds) AS seconds
FROM gains
GROUP BY k
ORDER BY k
