-- The metrics of a trace, how many samples each has, and whether it has buckets.
-- parameters: none
-- columns: metric VARCHAR, samples BIGINT, bounds BIGINT
SELECT metric, COUNT(*) AS samples, COUNT(DISTINCT le) AS bounds
FROM metric_series
WHERE value IS NOT NULL AND arrival_ns IS NOT NULL
GROUP BY metric
ORDER BY metric
