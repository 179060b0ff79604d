-- one row per pair of ids that rows show rewritten, with the latest ingest position it was seen at
with seen as (
    select project_id, distinct_id, before_id, ingest_ms, time_s from staged
    where valid_id(distinct_id) is not null and valid_id(before_id) is not null and distinct_id <> before_id
    union all
    from generation.rekeys
)
select project_id, distinct_id, before_id, latest.ingest_ms, latest.time_s
from (select project_id, distinct_id, before_id, max({ingest_ms: ingest_ms, time_s: time_s}) as latest
      from seen group by all)
