-- Per device: samples, plain mean, and sums over steps between successive samples that are no longer than
-- $max_step_ns (longer ones are gaps and count for nothing): seconds covered, trapezoid energy, steepest rise.
-- parameters: $max_step_ns longest step that is not a gap
-- columns: host VARCHAR, device VARCHAR, domain VARCHAR, samples BIGINT, mean_w DOUBLE, min_w DOUBLE, max_w DOUBLE, covered_s DOUBLE, energy_j DOUBLE, max_rise_w DOUBLE
SELECT
  host,
  device,
  domain,
  COUNT(*) AS samples,
  AVG(power_w) AS mean_w,
  MIN(power_w) AS min_w,
  MAX(power_w) AS max_w,
  SUM(CASE WHEN step_ns > 0 AND step_ns <= $max_step_ns THEN step_ns / 1000000000.0 END) AS covered_s,
  SUM(CASE WHEN step_ns > 0 AND step_ns <= $max_step_ns THEN (power_w + before_w) / 2 * (step_ns / 1000000000.0) END) AS energy_j,
  MAX(CASE WHEN step_ns > 0 AND step_ns <= $max_step_ns THEN power_w - before_w END) AS max_rise_w
FROM (
  SELECT
    host,
    device,
    domain,
    power_w,
    LAG(power_w) OVER (PARTITION BY host, device, domain ORDER BY arrival_ns, row_id) AS before_w,
    arrival_ns - LAG(arrival_ns) OVER (PARTITION BY host, device, domain ORDER BY arrival_ns, row_id) AS step_ns
  FROM power_samples
  WHERE power_w IS NOT NULL AND arrival_ns IS NOT NULL
)
GROUP BY host, device, domain
ORDER BY host, device, domain
