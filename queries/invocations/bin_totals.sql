-- From counts: invocations of all functions in each bin of the most common width. Bins without a row held none.
-- parameters: $bin_s width of a bin
-- columns: arrival_ns BIGINT, invocations BIGINT
SELECT arrival_ns, CAST(SUM(invocations) AS BIGINT) AS invocations
FROM invocation_counts
WHERE bin_s = $bin_s
GROUP BY arrival_ns
ORDER BY arrival_ns
