-- Durations from arrival to last token as a frequency table, in milliseconds.
-- parameters: none
-- columns: ms BIGINT, n BIGINT
SELECT CAST(FLOOR(e2e_s * 1000) AS BIGINT) AS ms, COUNT(*) AS n
FROM llm_requests
WHERE arrival_ns IS NOT NULL AND e2e_s IS NOT NULL
GROUP BY CAST(FLOOR(e2e_s * 1000) AS BIGINT)
ORDER BY ms
