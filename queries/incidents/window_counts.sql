-- Incidents per window of time. Empty windows are absent: fill them in.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, n BIGINT
SELECT (arrival_ns - $origin_ns) // $width_ns AS k, COUNT(*) AS n
FROM incidents
WHERE arrival_ns IS NOT NULL
GROUP BY (arrival_ns - $origin_ns) // $width_ns
ORDER BY k
