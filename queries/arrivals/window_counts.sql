-- Arrivals per window of one width, from the first arrival on. Empty windows are absent: fill them in.
-- parameters: $origin_ns first arrival; $width_ns width of a window
-- columns: k BIGINT, n BIGINT
SELECT (arrival_ns - $origin_ns) // $width_ns AS k, COUNT(*) AS n
FROM events
WHERE arrival_ns IS NOT NULL
GROUP BY (arrival_ns - $origin_ns) // $width_ns
ORDER BY k
