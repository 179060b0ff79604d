-- one row per pair of ids that the staged rows show rewritten, with the latest ingest position it was seen at
select project_id, distinct_id, before_id, max(ingest_ms) as ingest_ms,
       arg_max(time_s, ingest_ms::hugeint * 1099511627776 + time_s) as time_s
from staged
where valid_id(distinct_id) is not null and valid_id(before_id) is not null and distinct_id <> before_id
group by all
