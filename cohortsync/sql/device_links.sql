-- one row per device and kind of evidence in the staged rows: the first by ingest wins
-- reads: staged, rewritten
-- Rows are first reduced to pairs of device and user, by position: (ingest_ms, time_s) as one number. insert_id is
-- looked up only for a device that met several users in one instant, and is '' otherwise.
with pairs as materialized (
    select project_id, device_id, user_id, false as verdict, min(ingest_ms) as ingest_ms,
           min(ingest_ms::hugeint * 1099511627776 + time_s) as position
    from staged
    where user_id is not null and device_id is not null and identity_failure is null
      and event not in ('$identify', '$create_alias', '$merge')
    group by all
    union all
    select project_id, before_id, distinct_id, true, first_ms, first_position
    from rewritten where starts_with(before_id, '$device:')
),
firsts as (
    select * replace (if(verdict, bare_device(device_id), device_id) as device_id),
           (position - ingest_ms::hugeint * 1099511627776)::bigint as time_s
    from pairs
    where not verdict or (bare_device(device_id) is not null and valid_id(user_id) is not null
                          and not starts_with(user_id, '$device:'))
    qualify position = min(position) over (partition by project_id, device_id, verdict)
),
disputed as (from firsts qualify count(*) over (partition by project_id, device_id, verdict) > 1),
tied as (
    select d.*, coalesce(s.insert_id, '') as insert_id
    from disputed d join staged s using (project_id, device_id, user_id, ingest_ms, time_s)
    where not verdict and identity_failure is null and event not in ('$identify', '$create_alias', '$merge')
    union all
    select d.*, coalesce(s.insert_id, '')
    from disputed d join staged s on verdict and s.project_id = d.project_id and s.distinct_id = d.user_id
        and s.before_id = '$device:' || d.device_id and s.ingest_ms = d.ingest_ms and s.time_s = d.time_s
)
select project_id, device_id, verdict, user_id, ingest_ms, time_s, '' as insert_id
from firsts anti join disputed using (project_id, device_id, verdict)
union all
select project_id, device_id, verdict, user_id, ingest_ms, time_s, insert_id
from tied
qualify row_number() over (partition by project_id, device_id, verdict order by insert_id, user_id) = 1
