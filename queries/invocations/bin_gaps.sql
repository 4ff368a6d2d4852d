-- From counts: time from one bin in which a function (or an application) was invoked to the next, and in how many bins it
-- was first invoked (a null gap).
-- parameters: $per_app whether applications and not functions are kept alive
-- columns: gap_ns BIGINT, n BIGINT
WITH active AS (
  SELECT CASE WHEN $per_app THEN app_id ELSE func_id END AS entity, arrival_ns
  FROM invocation_counts
  WHERE invocations > 0
),
bins AS (
  SELECT entity, arrival_ns FROM active WHERE entity IS NOT NULL GROUP BY entity, arrival_ns
)
SELECT gap_ns, COUNT(*) AS n
FROM (SELECT arrival_ns - LAG(arrival_ns) OVER (PARTITION BY entity ORDER BY arrival_ns) AS gap_ns FROM bins)
GROUP BY gap_ns
ORDER BY gap_ns
