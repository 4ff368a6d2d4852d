-- Cold start times and their components as frequency tables, some bins a factor of e; the ends of a bin are values of it.
-- Zeros, of steps that a cold start skips, are a bin of their own.
-- parameters: $per_e bins a factor of e
-- columns: component VARCHAR, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
SELECT component, MIN(x) AS lo_s, MAX(x) AS hi_s, COUNT(*) AS n, SUM(x) AS total_s
FROM (
  SELECT component, x, CASE WHEN x > 0 THEN FLOOR(LN(x) * $per_e) END AS bin
  FROM (
    SELECT 'total' AS component, total_s AS x FROM cold_starts
    UNION ALL
    SELECT 'pod_alloc' AS component, pod_alloc_s AS x FROM cold_starts
    UNION ALL
    SELECT 'deploy_code' AS component, deploy_code_s AS x FROM cold_starts
    UNION ALL
    SELECT 'deploy_dep' AS component, deploy_dep_s AS x FROM cold_starts
    UNION ALL
    SELECT 'scheduling' AS component, scheduling_s AS x FROM cold_starts
    UNION ALL
    SELECT 'init' AS component, init_s AS x FROM cold_starts
    UNION ALL
    SELECT 'model_load' AS component, model_load_s AS x FROM cold_starts
  )
  WHERE x >= 0
)
GROUP BY component, bin
ORDER BY component, lo_s
