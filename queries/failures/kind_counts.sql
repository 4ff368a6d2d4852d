-- Requests by status and by kind of failure, and how many of them carry no input length. Kind is 0 for a success, null where
-- the source does not record whether a request failed, and for a failure the first of these that holds:
--   1 content filter   its finish reason or error says so
--   2 rate-limited     HTTP 429, or an error that names a rate limit, a quota, throttling
--   3 timeout          status timeout, HTTP 408 or 504, or an error that names a timeout or a deadline
--   4 client cancel    status cancelled, HTTP 499, or an error that names a client that went away
--   5 server error     HTTP 5xx, or an error that names the server, a gateway, memory, overload
--   6 client error     other HTTP 4xx, or an error that names a bad request
--   7 unknown failure  all others
-- 8 is a success whose answer a content filter cut: no failure, since its status says ok.
-- parameters: none
-- columns: status VARCHAR, kind BIGINT, n BIGINT, without_tokens BIGINT
SELECT status, CAST(kind AS BIGINT) AS kind, CAST(SUM(n) AS BIGINT) AS n, CAST(SUM(without_tokens) AS BIGINT) AS without_tokens
FROM (
  SELECT
    status,
    n,
    without_tokens,
    CASE
      WHEN status = 'ok' AND finish_reason IS NULL THEN 0
      WHEN status = 'unknown' THEN NULL
      WHEN status = 'ok' AND LOWER(finish_reason) IN ('content_filter', 'content-filter', 'content_filtered', 'safety') THEN 8
      WHEN status = 'ok' THEN 0
      WHEN
        LOWER(finish_reason) IN ('content_filter', 'content-filter', 'content_filtered', 'safety')
        OR LOWER(error_code) LIKE '%content%filter%'
        OR LOWER(error_code) LIKE '%content%policy%'
        OR LOWER(error_code) LIKE '%moderation%'
        THEN 1
      WHEN
        error_code LIKE '429%'
        OR LOWER(error_code) LIKE '%rate%limit%'
        OR LOWER(error_code) LIKE '%too%many%request%'
        OR LOWER(error_code) LIKE '%throttl%'
        OR LOWER(error_code) LIKE '%quota%'
        OR LOWER(error_code) LIKE '%resource%exhausted%'
        THEN 2
      WHEN
        status = 'timeout'
        OR error_code LIKE '408%'
        OR error_code LIKE '504%'
        OR LOWER(error_code) LIKE '%timeout%'
        OR LOWER(error_code) LIKE '%timed%out%'
        OR LOWER(error_code) LIKE '%deadline%'
        THEN 3
      WHEN
        status = 'cancelled'
        OR error_code LIKE '499%'
        OR LOWER(error_code) LIKE '%cancel%'
        OR LOWER(error_code) LIKE '%client%disconnect%'
        OR LOWER(error_code) LIKE '%client%closed%'
        THEN 4
      WHEN
        error_code LIKE '5__'
        OR error_code LIKE '5__ %'
        OR LOWER(error_code) LIKE '%server%'
        OR LOWER(error_code) LIKE '%internal%'
        OR LOWER(error_code) LIKE '%unavailable%'
        OR LOWER(error_code) LIKE '%overload%'
        OR LOWER(error_code) LIKE '%gateway%'
        OR LOWER(error_code) LIKE '%out%of%memory%'
        OR LOWER(error_code) LIKE '%outofmemory%'
        THEN 5
      WHEN
        error_code LIKE '4__'
        OR error_code LIKE '4__ %'
        OR LOWER(error_code) LIKE '%invalid%'
        OR LOWER(error_code) LIKE '%bad%request%'
        OR LOWER(error_code) LIKE '%unauthori%'
        OR LOWER(error_code) LIKE '%forbidden%'
        OR LOWER(error_code) LIKE '%not%found%'
        OR LOWER(error_code) LIKE '%context%length%'
        THEN 6
      ELSE 7
    END AS kind
  FROM (
    SELECT status, error_code, finish_reason, COUNT(*) AS n, COUNT(*) - COUNT(input_tokens) AS without_tokens
    FROM llm_requests
    GROUP BY status, error_code, finish_reason
  )
)
GROUP BY status, kind
ORDER BY status, kind
