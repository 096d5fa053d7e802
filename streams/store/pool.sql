-- Queries of pool.py.

-- name: in_utc
-- So that times read the same on every server, and none leaves the years 1 to 9999.
SET TIME ZONE 'UTC'

-- name: may_serve
SELECT EXISTS (
    SELECT FROM pg_roles
    WHERE rolname = 'pointsman_service'
        AND pg_has_role(current_user, oid, CASE
            WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER'
        END)
)

-- name: serve
-- Takes away all rights that the service does not need, whoever it logged in as.
SET ROLE pointsman_service
