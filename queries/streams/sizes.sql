-- How many streams (values of a column) have how many rows, for every column that names streams.
-- Rows without a value take no part.
-- parameters: none
-- columns: field VARCHAR, size BIGINT, streams BIGINT
WITH sizes AS (
  SELECT 'model' AS field, COUNT(*) AS size FROM llm_requests WHERE model IS NOT NULL GROUP BY model
  UNION ALL
  SELECT 'service' AS field, COUNT(*) AS size FROM llm_requests WHERE service IS NOT NULL GROUP BY service
  UNION ALL
  SELECT 'workload' AS field, COUNT(*) AS size FROM llm_requests WHERE workload IS NOT NULL GROUP BY workload
  UNION ALL
  SELECT 'adapter' AS field, COUNT(*) AS size FROM llm_requests WHERE adapter IS NOT NULL GROUP BY adapter
  UNION ALL
  SELECT 'tenant_id' AS field, COUNT(*) AS size FROM llm_requests WHERE tenant_id IS NOT NULL GROUP BY tenant_id
  UNION ALL
  SELECT 'user_id' AS field, COUNT(*) AS size FROM llm_requests WHERE user_id IS NOT NULL GROUP BY user_id
  UNION ALL
  SELECT 'client_id' AS field, COUNT(*) AS size FROM llm_requests WHERE client_id IS NOT NULL GROUP BY client_id
)
SELECT field, size, COUNT(*) AS streams
FROM sizes
GROUP BY field, size
ORDER BY field, size
