-- Cold start times by region, runtime, trigger and pool, each scope apart, as frequency tables, 128 bins a factor of e.
-- parameters: none
-- columns: scope VARCHAR, dimension VARCHAR, name VARCHAR, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH times AS (
  SELECT 'total' AS scope, total_s AS x, region, runtime, trigger, pool FROM cold_starts
  UNION ALL
  SELECT 'init' AS scope, init_s AS x, region, runtime, trigger, pool FROM cold_starts
  UNION ALL
  SELECT 'model_load' AS scope, model_load_s AS x, region, runtime, trigger, pool FROM cold_starts
),
named AS (
  SELECT scope, x, 'region' AS dimension, region AS name FROM times WHERE x >= 0
  UNION ALL
  SELECT scope, x, 'runtime' AS dimension, runtime AS name FROM times WHERE x >= 0
  UNION ALL
  SELECT scope, x, 'trigger' AS dimension, trigger AS name FROM times WHERE x >= 0
  UNION ALL
  SELECT scope, x, 'pool' AS dimension, pool AS name FROM times WHERE x >= 0
)
SELECT scope, dimension, name, MIN(x) AS lo_s, MAX(x) AS hi_s, COUNT(*) AS n, SUM(x) AS total_s
FROM (SELECT scope, dimension, name, x, CASE WHEN x > 0 THEN FLOOR(LN(x) * 128) END AS bin FROM named WHERE name IS NOT NULL)
GROUP BY scope, dimension, name, bin
ORDER BY scope, dimension, name, lo_s
