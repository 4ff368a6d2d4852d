-- From counts: the widths of the bins, and how many rows each has.
-- parameters: none
-- columns: bin_s DOUBLE, n BIGINT
SELECT bin_s, COUNT(*) AS n
FROM invocation_counts
GROUP BY bin_s
ORDER BY n DESC, bin_s
