-- Cold start times and their components, rounded to whole microseconds, as frequency tables.
-- parameters: none
-- columns: component VARCHAR, us BIGINT, n BIGINT
SELECT component, us, COUNT(*) AS n
FROM (
  SELECT 'total' AS component, CAST(FLOOR(total_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'pod_alloc' AS component, CAST(FLOOR(pod_alloc_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'deploy_code' AS component, CAST(FLOOR(deploy_code_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'deploy_dep' AS component, CAST(FLOOR(deploy_dep_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'scheduling' AS component, CAST(FLOOR(scheduling_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'init' AS component, CAST(FLOOR(init_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
  UNION ALL
  SELECT 'model_load' AS component, CAST(FLOOR(model_load_s * 1000000 + 0.5) AS BIGINT) AS us FROM cold_starts
)
WHERE us IS NOT NULL
GROUP BY component, us
ORDER BY component, us
