-- What each client asks for, by window: probability of every number of input and output tokens.
-- parameters: none
-- columns: client_id VARCHAR, arrival_ns BIGINT, field VARCHAR, value DOUBLE, prob DOUBLE
SELECT client_id, arrival_ns, field, value, prob
FROM client_pmf
WHERE field IN ('input_tokens', 'output_tokens')
ORDER BY client_id, arrival_ns, field, value
