-- Cold start times and their components by window of time, 16 bins a factor of e; zeros are bin -1000.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: component VARCHAR, k BIGINT, bin BIGINT, n BIGINT, total_s DOUBLE
SELECT component, k, bin, COUNT(*) AS n, SUM(x) AS total_s
FROM (
  SELECT
    component,
    (arrival_ns - $origin_ns) // $width_ns AS k,
    x,
    CASE WHEN x > 0 THEN CAST(FLOOR(LN(x) * 16) AS BIGINT) ELSE -1000 END AS bin
  FROM (
    SELECT 'total' AS component, arrival_ns, total_s AS x FROM cold_starts
    UNION ALL
    SELECT 'pod_alloc' AS component, arrival_ns, pod_alloc_s AS x FROM cold_starts
    UNION ALL
    SELECT 'deploy_code' AS component, arrival_ns, deploy_code_s AS x FROM cold_starts
    UNION ALL
    SELECT 'deploy_dep' AS component, arrival_ns, deploy_dep_s AS x FROM cold_starts
    UNION ALL
    SELECT 'scheduling' AS component, arrival_ns, scheduling_s AS x FROM cold_starts
    UNION ALL
    SELECT 'init' AS component, arrival_ns, init_s AS x FROM cold_starts
    UNION ALL
    SELECT 'model_load' AS component, arrival_ns, model_load_s AS x FROM cold_starts
  )
  WHERE x >= 0 AND arrival_ns IS NOT NULL
)
GROUP BY component, k, bin
ORDER BY component, k, bin
