-- Spearman (mid-ranks) and Pearson correlation of input and output lengths over rows that have both.
-- parameters: none
-- columns: pairs BIGINT, spearman DOUBLE, pearson DOUBLE
WITH both_lengths AS (
  SELECT input_tokens, output_tokens
  FROM llm_requests
  WHERE input_tokens IS NOT NULL AND output_tokens IS NOT NULL
),
input_ranks AS (
  SELECT input_tokens, CAST(SUM(n) OVER (ORDER BY input_tokens) AS BIGINT) - n / 2.0 AS mid
  FROM (SELECT input_tokens, COUNT(*) AS n FROM both_lengths GROUP BY input_tokens)
),
output_ranks AS (
  SELECT output_tokens, CAST(SUM(n) OVER (ORDER BY output_tokens) AS BIGINT) - n / 2.0 AS mid
  FROM (SELECT output_tokens, COUNT(*) AS n FROM both_lengths GROUP BY output_tokens)
)
SELECT
  COUNT(*) AS pairs,
  CORR(i.mid, o.mid) AS spearman,
  CORR(CAST(b.input_tokens AS DOUBLE), CAST(b.output_tokens AS DOUBLE)) AS pearson
FROM both_lengths AS b
JOIN input_ranks AS i ON b.input_tokens = i.input_tokens
JOIN output_ranks AS o ON b.output_tokens = o.output_tokens
