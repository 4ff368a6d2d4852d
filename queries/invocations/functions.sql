-- Every function: how often it was invoked, by what, whether it keeps a period (its median gap, taken as whole seconds when next
-- to them): the share of its gaps within a tenth of a multiple of it, how far off those are (median, s), and where in the
-- period it runs, counted from its start and from its middle; and the logarithms of its durations.
-- parameters: none
-- columns: func_id VARCHAR, n BIGINT, trigger VARCHAR, period_s DOUBLE, near DOUBLE, off DOUBLE, phase DOUBLE, phase_var DOUBLE, turned DOUBLE, turned_var DOUBLE, timed BIGINT, log_mean DOUBLE, log_var DOUBLE
WITH timed AS (
  SELECT
    func_id,
    trigger,
    arrival_ns,
    CASE WHEN duration_s > 0 THEN LN(duration_s) END AS log_s,
    CAST(arrival_ns - LAG(arrival_ns) OVER (PARTITION BY func_id ORDER BY arrival_ns, row_id) AS DOUBLE) / 1e9 AS gap_s
  FROM invocations
  WHERE arrival_ns IS NOT NULL
),
typical AS (
  SELECT func_id, MEDIAN(gap_s) AS gap_s FROM timed GROUP BY func_id
),
periods AS (
  SELECT
    func_id,
    CASE
      WHEN gap_s >= 1 AND ABS(gap_s - FLOOR(gap_s + 0.5)) < 0.005 * gap_s THEN FLOOR(gap_s + 0.5)
      WHEN gap_s > 0 THEN gap_s
    END AS period_s
  FROM typical
),
turns AS (
  SELECT
    t.func_id,
    t.trigger,
    t.log_s,
    p.period_s,
    t.gap_s / p.period_s AS gap,
    t.gap_s / p.period_s - FLOOR(t.gap_s / p.period_s + 0.5) AS beside,
    CAST(t.arrival_ns AS DOUBLE) / 1e9 / p.period_s AS turn
  FROM timed AS t
  JOIN periods AS p ON t.func_id = p.func_id
)
SELECT
  func_id,
  COUNT(*) AS n,
  MIN(trigger) AS trigger,
  MIN(period_s) AS period_s,
  AVG(CASE WHEN gap >= 0.5 AND ABS(beside) <= 0.1 THEN 1.0 WHEN gap IS NOT NULL THEN 0.0 END) AS near,
  MEDIAN(CASE WHEN gap >= 0.5 AND ABS(beside) <= 0.1 THEN ABS(beside) * period_s END) AS off,
  MEDIAN(turn - FLOOR(turn)) AS phase,
  VAR_POP(turn - FLOOR(turn)) AS phase_var,
  MEDIAN(turn + 0.5 - FLOOR(turn + 0.5)) AS turned,
  VAR_POP(turn + 0.5 - FLOOR(turn + 0.5)) AS turned_var,
  COUNT(log_s) AS timed,
  AVG(log_s) AS log_mean,
  VAR_POP(log_s) AS log_var
FROM turns
GROUP BY func_id
ORDER BY n DESC, func_id
