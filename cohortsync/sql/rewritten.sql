-- one row per pair of ids that the staged rows show rewritten, and the first and the latest position it was seen at
-- A position is (ingest_ms, time_s) as one number, ingest_ms * 2^40 + time_s; the milliseconds say what to take off.
select project_id, distinct_id, before_id, min(ingest_ms) as first_ms, max(ingest_ms) as last_ms,
       min(position) as first_position, max(position) as last_position
from (select *, ingest_ms::hugeint * 1099511627776 + time_s as position from staged where before_id is not null)
group by project_id, distinct_id, before_id
