-- Functions by the share of their later invocations that would find no instance kept alive for 1, 5, 10, 20 min and 1 h after
-- the end of the last request (single instance), in hundredths, rounded down; only functions invoked more than once.
-- parameters: none
-- columns: cold_60 BIGINT, cold_300 BIGINT, cold_600 BIGINT, cold_1200 BIGINT, cold_3600 BIGINT, functions BIGINT
WITH timed AS (
  SELECT func_id, row_id, arrival_ns, arrival_ns + CAST(FLOOR(COALESCE(duration_s, 0) * 1e9) AS BIGINT) AS end_ns
  FROM invocations
  WHERE arrival_ns IS NOT NULL
),
before AS (
  SELECT
    func_id,
    arrival_ns,
    MAX(end_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns, row_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_end_ns
  FROM timed
),
shares AS (
  SELECT
    func_id,
    CAST(SUM(CASE WHEN arrival_ns - last_end_ns > 60000000000 THEN 1 ELSE 0 END) AS BIGINT) * 100 // COUNT(*) AS cold_60,
    CAST(SUM(CASE WHEN arrival_ns - last_end_ns > 300000000000 THEN 1 ELSE 0 END) AS BIGINT) * 100 // COUNT(*) AS cold_300,
    CAST(SUM(CASE WHEN arrival_ns - last_end_ns > 600000000000 THEN 1 ELSE 0 END) AS BIGINT) * 100 // COUNT(*) AS cold_600,
    CAST(SUM(CASE WHEN arrival_ns - last_end_ns > 1200000000000 THEN 1 ELSE 0 END) AS BIGINT) * 100 // COUNT(*) AS cold_1200,
    CAST(SUM(CASE WHEN arrival_ns - last_end_ns > 3600000000000 THEN 1 ELSE 0 END) AS BIGINT) * 100 // COUNT(*) AS cold_3600
  FROM before
  WHERE last_end_ns IS NOT NULL
  GROUP BY func_id
)
SELECT cold_60, cold_300, cold_600, cold_1200, cold_3600, COUNT(*) AS functions
FROM shares
GROUP BY cold_60, cold_300, cold_600, cold_1200, cold_3600
ORDER BY cold_60, cold_300, cold_600, cold_1200, cold_3600
