-- Spearman's rank correlation of each two steps, over the cold starts that record both, and how many those are.
-- parameters: none
-- columns: a VARCHAR, b VARCHAR, n BIGINT, r DOUBLE
WITH pairs AS (
  SELECT 'pod_alloc' AS a, 'deploy_code' AS b, pod_alloc_s AS x, deploy_code_s AS y FROM cold_starts
  UNION ALL
  SELECT 'pod_alloc' AS a, 'deploy_dep' AS b, pod_alloc_s AS x, deploy_dep_s AS y FROM cold_starts
  UNION ALL
  SELECT 'pod_alloc' AS a, 'scheduling' AS b, pod_alloc_s AS x, scheduling_s AS y FROM cold_starts
  UNION ALL
  SELECT 'deploy_code' AS a, 'deploy_dep' AS b, deploy_code_s AS x, deploy_dep_s AS y FROM cold_starts
  UNION ALL
  SELECT 'deploy_code' AS a, 'scheduling' AS b, deploy_code_s AS x, scheduling_s AS y FROM cold_starts
  UNION ALL
  SELECT 'deploy_dep' AS a, 'scheduling' AS b, deploy_dep_s AS x, scheduling_s AS y FROM cold_starts
),
ranked AS (
  SELECT
    a,
    b,
    RANK() OVER (PARTITION BY a, b ORDER BY x) + CAST(COUNT(*) OVER (PARTITION BY a, b, x) - 1 AS DOUBLE) / 2 AS rx,
    RANK() OVER (PARTITION BY a, b ORDER BY y) + CAST(COUNT(*) OVER (PARTITION BY a, b, y) - 1 AS DOUBLE) / 2 AS ry
  FROM pairs
  WHERE x >= 0 AND y >= 0
)
SELECT a, b, COUNT(*) AS n, CORR(rx, ry) AS r
FROM ranked
GROUP BY a, b
ORDER BY a, b
