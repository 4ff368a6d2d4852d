-- Lengths of runs of consecutive failures and of consecutive successes, in order of arrival.
-- Rows whose status is unknown take no part.
-- parameters: none
-- columns: failed BIGINT, length BIGINT, n BIGINT
WITH known AS (
  SELECT
    CASE WHEN status = 'ok' THEN 0 ELSE 1 END AS failed,
    ROW_NUMBER() OVER (ORDER BY arrival_ns, row_id) AS position
  FROM llm_requests
  WHERE status <> 'unknown'
),
runs AS (
  SELECT failed, position - ROW_NUMBER() OVER (PARTITION BY failed ORDER BY position) AS run
  FROM known
)
SELECT CAST(failed AS BIGINT) AS failed, length, COUNT(*) AS n
FROM (SELECT failed, run, COUNT(*) AS length FROM runs GROUP BY failed, run)
GROUP BY failed, length
ORDER BY failed, length
