-- one row per device and kind of evidence: what was known before, and the staged rows, the first by ingest wins
with sighted as (
    select project_id, device_id, false as verdict, user_id, ingest_ms, time_s, coalesce(insert_id, '') as insert_id
    from staged
    where user_id is not null and device_id is not null and identity_failure is null
      and event not in ('$identify', '$create_alias', '$merge')
    union all
    select project_id, bare_device(before_id), true, valid_id(distinct_id), ingest_ms, time_s,
           coalesce(insert_id, '')
    from staged
    where starts_with(before_id, '$device:') and bare_device(before_id) is not null
      and valid_id(distinct_id) is not null and not starts_with(distinct_id, '$device:')
    union all
    from generation.device_links
)
select project_id, device_id, verdict, first_row.user_id, first_row.ingest_ms, first_row.time_s, first_row.insert_id
from (select project_id, device_id, verdict,
             min({ingest_ms: ingest_ms, time_s: time_s, insert_id: insert_id, user_id: user_id}) as first_row
      from sighted group by all)
