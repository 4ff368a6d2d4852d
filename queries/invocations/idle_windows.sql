-- The idle times of functions before their invocations (see idle_counts), by window of time, 16 bins a factor of e.
-- Bin -1000 holds those that came while another ran; first invocations take no part.
-- parameters: $per_app whether applications and not functions are kept alive; $origin_ns start of the first window;
-- $width_ns width of a window
-- columns: k BIGINT, bin BIGINT, n BIGINT, total_s DOUBLE
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
    (arrival_ns - $origin_ns) // $width_ns AS k,
    CASE WHEN arrival_ns > last_end_ns THEN CAST(arrival_ns - last_end_ns AS DOUBLE) / 1e9 ELSE CAST(0 AS DOUBLE) END AS idle_s
  FROM before
  WHERE last_end_ns IS NOT NULL
)
SELECT k, bin, COUNT(*) AS n, SUM(idle_s) AS total_s
FROM (
  SELECT k, idle_s, CASE WHEN idle_s > 0 THEN CAST(FLOOR(LN(idle_s) * 16) AS BIGINT) ELSE -1000 END AS bin
  FROM idle
)
GROUP BY k, bin
ORDER BY k, bin
