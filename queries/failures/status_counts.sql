-- Requests by status, and how many of them carry no input length.
-- parameters: none
-- columns: status VARCHAR, n BIGINT, without_tokens BIGINT
SELECT status, COUNT(*) AS n, COUNT(*) - COUNT(input_tokens) AS without_tokens
FROM llm_requests
GROUP BY status
ORDER BY status
