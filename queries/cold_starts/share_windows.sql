-- Per window of time, of cold starts whose recorded steps take some time: the seconds of each step, and the sum over cold
-- starts of its share in each. Window -1: no time.
-- parameters: $origin_ns start of the first window; $width_ns width of a window
-- columns: k BIGINT, n BIGINT, whole_s DOUBLE, pod_alloc_s DOUBLE, deploy_code_s DOUBLE, deploy_dep_s DOUBLE,
-- scheduling_s DOUBLE, pod_alloc_shares DOUBLE, deploy_code_shares DOUBLE, deploy_dep_shares DOUBLE, scheduling_shares DOUBLE
SELECT
  k,
  COUNT(*) AS n,
  SUM(whole) AS whole_s,
  SUM(alloc) AS pod_alloc_s,
  SUM(code) AS deploy_code_s,
  SUM(dep) AS deploy_dep_s,
  SUM(sched) AS scheduling_s,
  SUM(alloc / whole) AS pod_alloc_shares,
  SUM(code / whole) AS deploy_code_shares,
  SUM(dep / whole) AS deploy_dep_shares,
  SUM(sched / whole) AS scheduling_shares
FROM (
  SELECT k, alloc, code, dep, sched, alloc + code + dep + sched AS whole
  FROM (
    SELECT
      CASE WHEN arrival_ns IS NULL THEN -1 ELSE (arrival_ns - $origin_ns) // $width_ns END AS k,
      COALESCE(pod_alloc_s, 0) AS alloc,
      COALESCE(deploy_code_s, 0) AS code,
      COALESCE(deploy_dep_s, 0) AS dep,
      COALESCE(scheduling_s, 0) AS sched
    FROM cold_starts
  )
)
WHERE whole > 0
GROUP BY k
ORDER BY k
