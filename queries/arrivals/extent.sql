-- How many events there are, how many have an arrival, and the first and the last of them.
-- parameters: none
-- columns: events BIGINT, with_arrival BIGINT, first_ns BIGINT, last_ns BIGINT
SELECT
  COUNT(*) AS events,
  COUNT(arrival_ns) AS with_arrival,
  MIN(arrival_ns) AS first_ns,
  MAX(arrival_ns) AS last_ns
FROM events
