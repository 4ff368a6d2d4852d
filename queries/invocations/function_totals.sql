-- How many functions were invoked how often, from rows or from counts.
-- parameters: $binned whether the trace holds counts per bin and not rows
-- columns: invocations BIGINT, functions BIGINT
SELECT invocations, COUNT(*) AS functions
FROM (
  SELECT func_id, CAST(SUM(n) AS BIGINT) AS invocations
  FROM (
    SELECT func_id, 1 AS n FROM invocations WHERE NOT $binned
    UNION ALL
    SELECT func_id, invocations AS n FROM invocation_counts WHERE $binned
  )
  GROUP BY func_id
)
GROUP BY invocations
ORDER BY invocations
