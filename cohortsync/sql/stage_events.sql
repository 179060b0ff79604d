-- one row per line of the files of events; event or time_s is null where the line has none
-- reads: lines(event, properties, file_no, line), properties as text that may be no JSON; variables project_id, load_id
with picked as (
    select event, properties, file_no, line, try(json_transform(properties, '{
        "time": "DOUBLE", "distinct_id": "VARCHAR", "$distinct_id_before_identity": "VARCHAR",
        "$insert_id": "VARCHAR", "$user_id": "VARCHAR", "$device_id": "VARCHAR",
        "$mp_api_timestamp_ms": "BIGINT", "mp_processing_time_ms": "BIGINT", "$source": "VARCHAR",
        "$partner_id": "VARCHAR", "$import": "VARCHAR", "$identity_failure_reason": "VARCHAR",
        "$failure_reason": "VARCHAR"}')) as p
    from lines
),
timed as (  -- true and false are no times, though they are read as 1 and 0
    select *, if(p."$mp_api_timestamp_ms" > 1, p."$mp_api_timestamp_ms", null) as received_ms,
           if(p.mp_processing_time_ms > 1, p.mp_processing_time_ms, null) as handled_ms,
           case when p."time" > 1 and p."time" < 1e11 then floor(p."time")::bigint
                else epoch_s(try(json_extract_string(properties, '$.time'))) end as time_s
    from picked
)
select getvariable('project_id')::varchar as project_id,
       nullif(event, '') as event,
       time_s,
       p.distinct_id as distinct_id,
       p."$distinct_id_before_identity" as before_id,
       valid_id(p."$insert_id") as insert_id,
       valid_id(p."$user_id") as user_id,
       bare_device(p."$device_id") as device_id,
       coalesce(received_ms, handled_ms, time_s * 1000) as ingest_ms,
       coalesce(handled_ms, received_ms, 0) as processed_ms,
       nullif(p."$source", '') as source,
       nullif(p."$partner_id", '') as partner_id,
       coalesce(p."$import" = 'true', false) as imported,
       nullif(p."$identity_failure_reason", '') as identity_failure,
       nullif(p."$failure_reason", '') as failure,
       properties,
       getvariable('load_id')::integer as load_id,
       file_no, line,
       cast(make_timestamp(time_s * 1000000) as date) as day
from timed
