-- one row per line of the files of events; event or time_s is null where the line has none
-- reads: lines(event, properties, file_no, line), properties as text that may be no JSON; variables project_id, load_id
with picked as (
    select event, properties, file_no, line, try(json_transform(properties, '{
        "time": "VARCHAR", "distinct_id": "VARCHAR", "$distinct_id_before_identity": "VARCHAR",
        "$insert_id": "VARCHAR", "$user_id": "VARCHAR", "$device_id": "VARCHAR",
        "$mp_api_timestamp_ms": "VARCHAR", "mp_processing_time_ms": "VARCHAR", "$source": "VARCHAR",
        "$partner_id": "VARCHAR", "$import": "VARCHAR", "$identity_failure_reason": "VARCHAR",
        "$failure_reason": "VARCHAR"}')) as p
    from lines
)
select getvariable('project_id')::varchar as project_id,
       nullif(event, '') as event,
       epoch_s(p."time") as time_s,
       p.distinct_id as distinct_id,
       p."$distinct_id_before_identity" as before_id,
       valid_id(p."$insert_id") as insert_id,
       valid_id(p."$user_id") as user_id,
       bare_device(p."$device_id") as device_id,
       coalesce(try_cast(p."$mp_api_timestamp_ms" as bigint), try_cast(p.mp_processing_time_ms as bigint),
                epoch_s(p."time") * 1000) as ingest_ms,
       coalesce(try_cast(p.mp_processing_time_ms as bigint), try_cast(p."$mp_api_timestamp_ms" as bigint), 0)
           as processed_ms,
       nullif(p."$source", '') as source,
       nullif(p."$partner_id", '') as partner_id,
       coalesce(p."$import" = 'true', false) as imported,
       nullif(p."$identity_failure_reason", '') as identity_failure,
       nullif(p."$failure_reason", '') as failure,
       properties,
       getvariable('load_id')::integer as load_id,
       file_no, line,
       cast(make_timestamp(epoch_s(p."time") * 1000000) as date) as day
from picked
