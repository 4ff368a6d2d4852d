-- All points of published curves, in the order of their source.
-- parameters: none
-- columns: figure VARCHAR, quantity VARCHAR, series VARCHAR, x DOUBLE, cdf DOUBLE
SELECT figure, quantity, series, x, cdf
FROM cdf_points
ORDER BY row_id
