-- Requests whose prefix blocks are recorded, by the size of the blocks.
-- parameters: none
-- columns: block_tokens INTEGER, requests BIGINT, with_arrival BIGINT, with_input BIGINT
SELECT
  prefix_block_size AS block_tokens,
  COUNT(*) AS requests,
  COUNT(arrival_ns) AS with_arrival,
  COUNT(input_tokens) AS with_input
FROM llm_requests
WHERE prefix_hashes IS NOT NULL
GROUP BY prefix_block_size
ORDER BY block_tokens
