-- Arrival law of each client in each window.
-- parameters: none
-- columns: client_id VARCHAR, arrival_ns BIGINT, window_s DOUBLE, rate_rps DOUBLE, gap_cv DOUBLE, law VARCHAR, shape DOUBLE
SELECT client_id, arrival_ns, window_s, rate_rps, gap_cv, law, shape
FROM client_windows
ORDER BY client_id, arrival_ns
