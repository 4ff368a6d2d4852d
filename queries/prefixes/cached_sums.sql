-- Prompt tokens and those that the engine found in its cache, over requests that record both, per window of time.
-- Rows without an arrival are in the window null.
-- parameters: $origin_ns first arrival; $width_ns width of a window
-- columns: k BIGINT, requests BIGINT, cached_tokens BIGINT, input_tokens BIGINT
SELECT
  (arrival_ns - $origin_ns) // $width_ns AS k,
  COUNT(*) AS requests,
  CAST(SUM(LEAST(cached_input_tokens, input_tokens)) AS BIGINT) AS cached_tokens,
  CAST(SUM(input_tokens) AS BIGINT) AS input_tokens
FROM llm_requests
WHERE cached_input_tokens IS NOT NULL AND input_tokens IS NOT NULL
GROUP BY (arrival_ns - $origin_ns) // $width_ns
ORDER BY k
