-- Whether the source wrote its rows as requests ended: steps back in time between successive source rows, by arrival
-- and by end (arrival plus duration), and the first and last end.
-- parameters: none
-- columns: pairs BIGINT, arrival_back BIGINT, end_back BIGINT, first_end_ns BIGINT, last_end_ns BIGINT
SELECT
  COUNT(before_ns) AS pairs,
  COUNT(CASE WHEN arrival_ns < before_ns THEN 1 END) AS arrival_back,
  COUNT(CASE WHEN end_ns < end_before_ns THEN 1 END) AS end_back,
  MIN(end_ns) AS first_end_ns,
  MAX(end_ns) AS last_end_ns
FROM (
  SELECT
    arrival_ns,
    end_ns,
    LAG(arrival_ns) OVER (ORDER BY row_id) AS before_ns,
    LAG(end_ns) OVER (ORDER BY row_id) AS end_before_ns
  FROM (
    SELECT row_id, arrival_ns, arrival_ns + CAST(FLOOR(e2e_s * 1000000000) AS BIGINT) AS end_ns
    FROM llm_requests
    WHERE arrival_ns IS NOT NULL AND e2e_s IS NOT NULL
  )
)
