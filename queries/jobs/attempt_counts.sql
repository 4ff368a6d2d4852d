-- How often jobs were started.
-- parameters: none
-- columns: attempts BIGINT, n BIGINT
SELECT CAST(attempts AS BIGINT) AS attempts, COUNT(*) AS n
FROM jobs
WHERE attempts IS NOT NULL
GROUP BY CAST(attempts AS BIGINT)
ORDER BY attempts
