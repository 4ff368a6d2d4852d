-- Most invocations that ran at once, and the seconds of all of them. One that ends as another starts frees its place.
-- parameters: none
-- columns: peak BIGINT, busy_s DOUBLE, last_end_ns BIGINT, with_duration BIGINT
WITH timed AS (
  SELECT arrival_ns, duration_s, arrival_ns + CAST(FLOOR(duration_s * 1e9) AS BIGINT) AS end_ns
  FROM invocations
  WHERE arrival_ns IS NOT NULL AND duration_s IS NOT NULL
),
steps AS (
  SELECT arrival_ns AS at_ns, 1 AS step FROM timed
  UNION ALL
  SELECT end_ns AS at_ns, -1 AS step FROM timed
),
running AS (
  SELECT CAST(SUM(step) OVER (ORDER BY at_ns) AS BIGINT) AS running FROM steps
)
SELECT
  (SELECT MAX(running) FROM running) AS peak,
  SUM(duration_s) AS busy_s,
  MAX(end_ns) AS last_end_ns,
  COUNT(*) AS with_duration
FROM timed
