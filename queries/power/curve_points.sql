-- Points of cumulative curves of power (quantities whose unit is watts), of sources that publish nothing else.
-- parameters: none
-- columns: figure VARCHAR, quantity VARCHAR, series VARCHAR, x DOUBLE, cdf DOUBLE
SELECT COALESCE(figure, '') AS figure, quantity, series, x, cdf
FROM cdf_points
WHERE quantity LIKE '%power_w'
ORDER BY figure, quantity, series, cdf, x, row_id
