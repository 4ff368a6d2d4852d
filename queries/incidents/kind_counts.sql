-- Incidents by what failed, how, and which component, and the GPU seconds lost.
-- parameters: none
-- columns: entity_type VARCHAR, kind VARCHAR, component VARCHAR, n BIGINT, lost_gpu_s DOUBLE
SELECT entity_type, kind, component, COUNT(*) AS n, SUM(lost_gpu_s) AS lost_gpu_s
FROM incidents
GROUP BY entity_type, kind, component
ORDER BY entity_type, kind, component
