-- Time between incidents. Whole 1: between successive ones of all; 0: between those of one node, GPU or service. Ended 0:
-- from the start of what was observed to the first, and from the last to its end.
-- parameters: $start_ns start of what was observed; $end_ns its end
-- columns: whole BIGINT, ended BIGINT, lo_s DOUBLE, hi_s DOUBLE, n BIGINT, total_s DOUBLE
WITH timed AS (
  SELECT arrival_ns, row_id, CASE WHEN entity_type IN ('node', 'gpu', 'service') THEN entity_id END AS entity
  FROM incidents
  WHERE arrival_ns IS NOT NULL
),
gaps AS (
  SELECT 1 AS whole, arrival_ns - LAG(arrival_ns) OVER (ORDER BY arrival_ns, row_id) AS gap_ns, 1 AS ended FROM timed
  UNION ALL
  SELECT 0 AS whole, arrival_ns - LAG(arrival_ns) OVER (PARTITION BY entity ORDER BY arrival_ns, row_id) AS gap_ns, 1 AS ended
  FROM timed
  WHERE entity IS NOT NULL
  UNION ALL
  SELECT 1 AS whole, MIN(arrival_ns) - $start_ns AS gap_ns, 0 AS ended FROM timed
  UNION ALL
  SELECT 1 AS whole, $end_ns - MAX(arrival_ns) AS gap_ns, 0 AS ended FROM timed
  UNION ALL
  SELECT 0 AS whole, MIN(arrival_ns) - $start_ns AS gap_ns, 0 AS ended FROM timed WHERE entity IS NOT NULL GROUP BY entity
  UNION ALL
  SELECT 0 AS whole, $end_ns - MAX(arrival_ns) AS gap_ns, 0 AS ended FROM timed WHERE entity IS NOT NULL GROUP BY entity
)
SELECT
  CAST(whole AS BIGINT) AS whole,
  CAST(ended AS BIGINT) AS ended,
  MIN(gap_s) AS lo_s,
  MAX(gap_s) AS hi_s,
  COUNT(*) AS n,
  SUM(gap_s) AS total_s
FROM (
  SELECT whole, ended, gap_s, CASE WHEN gap_s > 0 THEN FLOOR(LN(gap_s) * 256) END AS bin
  FROM (SELECT whole, ended, CAST(gap_ns AS DOUBLE) / 1e9 AS gap_s FROM gaps WHERE gap_ns > 0 OR (gap_ns = 0 AND ended = 1))
)
GROUP BY whole, ended, bin
ORDER BY whole, ended, lo_s
