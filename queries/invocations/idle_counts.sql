-- How long a function (or an application) had been idle when each of its invocations came: from the END of its last
-- request, the latest end of all before. State 0: its first invocation; 1: it came while another ran (idle 0); 2: idle.
-- A frequency table, 256 bins a factor of e, cut at 1, 5, 10, 20, 30 s, 1, 2, 5, 10, 15, 20, 30 min, 1, 2, 6, 12, 24 h, where
-- timers and keep-alives meet; the ends of a bin are values of it. Without a duration a request ends at once.
-- parameters: $per_app whether applications and not functions are kept alive
-- columns: state BIGINT, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH timed AS (
  SELECT
    CASE WHEN $per_app THEN app_id ELSE func_id END AS entity,
    row_id,
    arrival_ns,
    arrival_ns + CAST(FLOOR(COALESCE(duration_s, 0) * 1e9) AS BIGINT) AS end_ns
  FROM invocations
  WHERE arrival_ns IS NOT NULL
),
before AS (
  SELECT
    arrival_ns,
    MAX(end_ns) OVER (PARTITION BY entity ORDER BY arrival_ns, row_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_end_ns
  FROM timed
  WHERE entity IS NOT NULL
),
idle AS (
  SELECT
    CASE WHEN last_end_ns IS NULL THEN 0 WHEN arrival_ns <= last_end_ns THEN 1 ELSE 2 END AS state,
    CASE WHEN arrival_ns > last_end_ns THEN CAST(arrival_ns - last_end_ns AS DOUBLE) / 1e9 ELSE CAST(0 AS DOUBLE) END AS idle_s
  FROM before
)
SELECT CAST(state AS BIGINT) AS state, MIN(idle_s) AS lo_s, MAX(idle_s) AS hi_s, COUNT(*) AS n, SUM(idle_s) AS total_s
FROM (
  SELECT
    state,
    idle_s,
    CASE WHEN idle_s > 0 THEN FLOOR(LN(idle_s) * 256) END AS bin,
    CASE
      WHEN idle_s <= 1 THEN 0
      WHEN idle_s <= 5 THEN 1
      WHEN idle_s <= 10 THEN 2
      WHEN idle_s <= 20 THEN 3
      WHEN idle_s <= 30 THEN 4
      WHEN idle_s <= 60 THEN 5
      WHEN idle_s <= 120 THEN 6
      WHEN idle_s <= 300 THEN 7
      WHEN idle_s <= 600 THEN 8
      WHEN idle_s <= 900 THEN 9
      WHEN idle_s <= 1200 THEN 10
      WHEN idle_s <= 1800 THEN 11
      WHEN idle_s <= 3600 THEN 12
      WHEN idle_s <= 7200 THEN 13
      WHEN idle_s <= 21600 THEN 14
      WHEN idle_s <= 43200 THEN 15
      WHEN idle_s <= 86400 THEN 16
      ELSE 17
    END AS cut
  FROM idle
)
GROUP BY state, bin, cut
ORDER BY state, lo_s
