-- From counts: every function, how often it was invoked and in how many bins, by what; its counts squared, times those of the
-- bin before, and squared over sixteen bins; and of the bins in which it was invoked what "functions" says of invocations.
-- parameters: $bin_s width of the bins; $width_ns the same in ns; $origin_ns start of the first bin
-- columns: func_id VARCHAR, n BIGINT, active BIGINT, trigger VARCHAR, squares BIGINT, lagged BIGINT, wide BIGINT, period_s DOUBLE, near DOUBLE, phase DOUBLE, phase_var DOUBLE, turned DOUBLE, turned_var DOUBLE
WITH bins AS (
  SELECT func_id, arrival_ns, MIN(trigger) AS trigger, CAST(SUM(invocations) AS BIGINT) AS c
  FROM invocation_counts
  WHERE bin_s = $bin_s AND invocations > 0
  GROUP BY func_id, arrival_ns
),
steps AS (
  SELECT
    func_id,
    trigger,
    arrival_ns,
    c,
    arrival_ns - LAG(arrival_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns) AS gap_ns,
    LAG(c) OVER (PARTITION BY func_id ORDER BY arrival_ns) AS before
  FROM bins
),
wide AS (
  SELECT func_id, CAST(SUM(c * c) AS BIGINT) AS wide
  FROM (
    SELECT func_id, CAST(SUM(c) AS BIGINT) AS c
    FROM bins
    GROUP BY func_id, (arrival_ns - $origin_ns) // (16 * $width_ns)
  )
  GROUP BY func_id
),
typical AS (
  SELECT func_id, MEDIAN(CAST(gap_ns AS DOUBLE)) / 1e9 AS period_s FROM steps GROUP BY func_id
),
turns AS (
  SELECT
    s.func_id,
    s.trigger,
    s.c,
    t.period_s,
    CASE WHEN s.gap_ns = $width_ns THEN s.before END AS before,
    CAST(s.gap_ns AS DOUBLE) / 1e9 / t.period_s AS gap,
    (CAST(s.arrival_ns AS DOUBLE) / 1e9 + $bin_s / 2) / t.period_s AS turn
  FROM steps AS s
  JOIN typical AS t ON s.func_id = t.func_id
)
SELECT
  t.func_id,
  CAST(SUM(t.c) AS BIGINT) AS n,
  COUNT(*) AS active,
  MIN(t.trigger) AS trigger,
  CAST(SUM(t.c * t.c) AS BIGINT) AS squares,
  CAST(SUM(t.c * COALESCE(t.before, 0)) AS BIGINT) AS lagged,
  MIN(w.wide) AS wide,
  MIN(t.period_s) AS period_s,
  AVG(CASE WHEN ABS(t.gap - FLOOR(t.gap + 0.5)) <= 0.1 THEN 1.0 WHEN t.gap IS NOT NULL THEN 0.0 END) AS near,
  MEDIAN(t.turn - FLOOR(t.turn)) AS phase,
  VAR_POP(t.turn - FLOOR(t.turn)) AS phase_var,
  MEDIAN(t.turn + 0.5 - FLOOR(t.turn + 0.5)) AS turned,
  VAR_POP(t.turn + 0.5 - FLOOR(t.turn + 0.5)) AS turned_var
FROM turns AS t
JOIN wide AS w ON t.func_id = w.func_id
GROUP BY t.func_id
ORDER BY n DESC, t.func_id
