-- Sums of counts over full windows of several widths, from the first arrival on: what IDC and peak-to-mean need.
-- Empty windows add nothing to any sum; how many full windows there are follows from the span.
-- parameters: $origin_ns first arrival; $span_ns last minus first arrival; $widths_ns list of widths
-- columns: width_ns BIGINT, occupied BIGINT, arrivals BIGINT, squares BIGINT, peak BIGINT
SELECT
  width_ns,
  COUNT(*) AS occupied,
  CAST(SUM(n) AS BIGINT) AS arrivals,
  CAST(SUM(n * n) AS BIGINT) AS squares,
  MAX(n) AS peak
FROM (
  SELECT w.width_ns, (e.arrival_ns - $origin_ns) // w.width_ns AS k, COUNT(*) AS n
  FROM events AS e
  CROSS JOIN (SELECT UNNEST($widths_ns) AS width_ns) AS w
  WHERE e.arrival_ns IS NOT NULL
  GROUP BY w.width_ns, (e.arrival_ns - $origin_ns) // w.width_ns
)
WHERE k < $span_ns // width_ns
GROUP BY width_ns
ORDER BY width_ns
