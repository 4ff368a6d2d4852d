-- Gaps between the starts of a function's invocations in mean gaps (the span over its invocations), 64 bins a factor of e: those
-- of the functions named, each by itself, and those of all others of five invocations or more that keep no period (name '').
-- The time before a function's first and after its last invocation is one gap, so that gaps add up to the span.
-- parameters: $named functions with a table of their own; $span_s of the trace
-- columns: name VARCHAR, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH timed AS (
  SELECT
    func_id,
    arrival_ns,
    CAST(arrival_ns - LAG(arrival_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns, row_id) AS DOUBLE) / 1e9 AS gap_s
  FROM invocations
  WHERE arrival_ns IS NOT NULL
),
typical AS (
  SELECT
    func_id,
    COUNT(*) AS n,
    $span_s - CAST(MAX(arrival_ns) - MIN(arrival_ns) AS DOUBLE) / 1e9 AS rest_s,
    MEDIAN(gap_s) AS period_s
  FROM timed
  GROUP BY func_id
),
kept AS (
  SELECT t.func_id, MIN(f.n) AS n, MIN(f.rest_s) AS rest_s
  FROM timed AS t
  JOIN typical AS f ON t.func_id = f.func_id
  WHERE f.n >= 5
  GROUP BY t.func_id
  HAVING
    AVG(
      CASE
        WHEN t.gap_s >= 0.5 * f.period_s AND ABS(t.gap_s / NULLIF(f.period_s, 0) - FLOOR(t.gap_s / NULLIF(f.period_s, 0) + 0.5)) <= 0.1 THEN 1.0
        WHEN t.gap_s IS NOT NULL THEN 0.0
      END
    ) < 0.8
    OR t.func_id IN $named
),
gaps AS (
  SELECT t.func_id, CAST(t.gap_s * k.n / $span_s AS DOUBLE) AS gap
  FROM timed AS t
  JOIN kept AS k ON t.func_id = k.func_id
  WHERE t.gap_s IS NOT NULL
  UNION ALL
  SELECT func_id, CAST(GREATEST(rest_s, 0) * n / $span_s AS DOUBLE) AS gap FROM kept
)
SELECT name, MIN(gap) AS lo_s, MAX(gap) AS hi_s, COUNT(*) AS n, SUM(gap) AS total_s
FROM (
  SELECT CASE WHEN func_id IN $named THEN func_id ELSE '' END AS name, gap, CASE WHEN gap > 0 THEN FLOOR(LN(gap) * 64) END AS bin
  FROM gaps
)
GROUP BY name, bin
ORDER BY name, lo_s
