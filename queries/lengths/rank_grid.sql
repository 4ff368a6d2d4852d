-- Joint ranks of input and output lengths on a square grid: the empirical copula.
-- Ties are spread over the ranks they share by two multiplicative hashes of row_id, one a side, so that
-- spikes neither pile up in one cell nor make the sides depend on each other.
-- parameters: $cells cells on a side
-- columns: i BIGINT, j BIGINT, n BIGINT
WITH both_lengths AS (
  SELECT
    input_tokens,
    output_tokens,
    ((row_id % 2147483648) * 1103515245 + 12345) % 2147483648 AS a,
    ((row_id % 2147483648) * 1597334677 + 67891) % 2147483648 AS b
  FROM llm_requests
  WHERE input_tokens IS NOT NULL AND output_tokens IS NOT NULL
),
input_ranks AS (
  SELECT input_tokens, n, CAST(SUM(n) OVER (ORDER BY input_tokens) AS BIGINT) - n AS below, CAST(SUM(n) OVER () AS BIGINT) AS total
  FROM (SELECT input_tokens, COUNT(*) AS n FROM both_lengths GROUP BY input_tokens)
),
output_ranks AS (
  SELECT output_tokens, n, CAST(SUM(n) OVER (ORDER BY output_tokens) AS BIGINT) - n AS below, CAST(SUM(n) OVER () AS BIGINT) AS total
  FROM (SELECT output_tokens, COUNT(*) AS n FROM both_lengths GROUP BY output_tokens)
)
SELECT i, j, COUNT(*) AS n
FROM (
  SELECT
    CAST(FLOOR((x.below + x.n * (r.a / 2147483648.0)) / x.total * $cells) AS BIGINT) AS i,
    CAST(FLOOR((y.below + y.n * (r.b / 2147483648.0)) / y.total * $cells) AS BIGINT) AS j
  FROM both_lengths AS r
  JOIN input_ranks AS x ON r.input_tokens = x.input_tokens
  JOIN output_ranks AS y ON r.output_tokens = y.output_tokens
)
GROUP BY i, j
ORDER BY i, j
