-- Gaps between successive arrivals as a frequency table; zero gaps included.
-- parameters: none
-- columns: gap_ns BIGINT, n BIGINT
SELECT gap_ns, COUNT(*) AS n
FROM (
  SELECT arrival_ns - LAG(arrival_ns) OVER (ORDER BY arrival_ns, row_id) AS gap_ns
  FROM events
  WHERE arrival_ns IS NOT NULL
)
WHERE gap_ns IS NOT NULL
GROUP BY gap_ns
ORDER BY gap_ns
