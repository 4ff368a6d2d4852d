-- Input and output lengths as frequency tables; rows without a length are left out.
-- parameters: none
-- columns: side VARCHAR, tokens BIGINT, n BIGINT
SELECT 'input' AS side, CAST(input_tokens AS BIGINT) AS tokens, COUNT(*) AS n
FROM llm_requests
WHERE input_tokens IS NOT NULL
GROUP BY input_tokens
UNION ALL
SELECT 'output' AS side, CAST(output_tokens AS BIGINT) AS tokens, COUNT(*) AS n
FROM llm_requests
WHERE output_tokens IS NOT NULL
GROUP BY output_tokens
ORDER BY side, tokens
