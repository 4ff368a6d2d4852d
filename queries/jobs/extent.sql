-- The time in which jobs were observed: from the first submission (or start) to the last instant on record.
-- parameters: none
-- columns: jobs BIGINT, first_ns BIGINT, last_ns BIGINT
SELECT
  COUNT(*) AS jobs,
  MIN(COALESCE(arrival_ns, start_ns, end_ns)) AS first_ns,
  MAX(GREATEST(COALESCE(arrival_ns, start_ns, end_ns), COALESCE(start_ns, arrival_ns, end_ns), COALESCE(end_ns, start_ns, arrival_ns))) AS last_ns
FROM jobs
