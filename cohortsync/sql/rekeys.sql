-- one row per pair of ids that the staged rows show rewritten, with the latest ingest position it was seen at
-- reads: rewritten
select project_id, distinct_id, before_id, last_ms as ingest_ms,
       (last_position - last_ms::hugeint * 1099511627776)::bigint as time_s
from rewritten
where valid_id(distinct_id) is not null and valid_id(before_id) is not null and distinct_id <> before_id
