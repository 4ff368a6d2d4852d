-- Durations of the functions named, each by itself, and of all others together (name ''), 64 bins a factor of e; zeros are a
-- bin of their own.
-- parameters: $named functions with a table of their own
-- columns: name VARCHAR, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
SELECT name, MIN(duration_s) AS lo_s, MAX(duration_s) AS hi_s, COUNT(*) AS n, SUM(duration_s) AS total_s
FROM (
  SELECT
    CASE WHEN func_id IN $named THEN func_id ELSE '' END AS name,
    duration_s,
    CASE WHEN duration_s > 0 THEN FLOOR(LN(duration_s) * 64) END AS bin
  FROM invocations
  WHERE duration_s >= 0
)
GROUP BY name, bin
ORDER BY name, lo_s
