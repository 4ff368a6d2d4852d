-- How many incidents there are, the first and the last of them, and the last instant on record.
-- parameters: none
-- columns: incidents BIGINT, timed BIGINT, first_ns BIGINT, last_ns BIGINT, end_ns BIGINT
SELECT
  COUNT(*) AS incidents,
  COUNT(arrival_ns) AS timed,
  MIN(arrival_ns) AS first_ns,
  MAX(arrival_ns) AS last_ns,
  MAX(GREATEST(arrival_ns, COALESCE(end_ns, arrival_ns))) AS end_ns
FROM incidents
