-- What the same sender (session, else client, else user) asks next of the same model with a prompt of the same length: after
-- its failures (failed 1), and after the successes of those senders and lengths that ever failed (failed 0). Next 0: nothing
-- within the time; 1: a request that failed; 2: one that succeeded. A frequency table of the delay, 64 bins a factor of e.
-- parameters: $within_ns the time
-- columns: failed BIGINT, next BIGINT, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH sent AS (
  SELECT
    row_id,
    arrival_ns,
    CASE WHEN status = 'ok' THEN 0 ELSE 1 END AS failed,
    input_tokens,
    COALESCE(model, '') AS model,
    COALESCE(session_id, client_id, user_id) AS sender
  FROM llm_requests
  WHERE arrival_ns IS NOT NULL AND input_tokens IS NOT NULL AND status <> 'unknown'
),
failing AS (
  SELECT sender, model, input_tokens FROM sent WHERE failed = 1 AND sender IS NOT NULL GROUP BY sender, model, input_tokens
),
followed AS (
  SELECT
    s.failed,
    s.arrival_ns,
    LEAD(s.arrival_ns) OVER (PARTITION BY s.sender, s.model, s.input_tokens ORDER BY s.arrival_ns, s.row_id) AS next_ns,
    LEAD(s.failed) OVER (PARTITION BY s.sender, s.model, s.input_tokens ORDER BY s.arrival_ns, s.row_id) AS next_failed
  FROM sent AS s
  JOIN failing AS f ON s.sender = f.sender AND s.model = f.model AND s.input_tokens = f.input_tokens
),
outcomes AS (
  SELECT
    failed,
    CASE WHEN next_ns IS NULL OR next_ns - arrival_ns > $within_ns THEN 0 WHEN next_failed = 1 THEN 1 ELSE 2 END AS next,
    CASE WHEN next_ns - arrival_ns <= $within_ns THEN CAST(next_ns - arrival_ns AS DOUBLE) / 1e9 ELSE CAST(0 AS DOUBLE) END AS delay_s
  FROM followed
)
SELECT
  CAST(failed AS BIGINT) AS failed,
  CAST(next AS BIGINT) AS next,
  MIN(delay_s) AS lo_s,
  MAX(delay_s) AS hi_s,
  COUNT(*) AS n,
  SUM(delay_s) AS total_s
FROM (SELECT failed, next, delay_s, CASE WHEN delay_s > 0 THEN FLOOR(LN(delay_s) * 64) END AS bin FROM outcomes)
GROUP BY failed, next, bin
ORDER BY failed, next, lo_s
