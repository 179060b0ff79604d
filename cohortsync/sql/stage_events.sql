-- one row per line of the files of events; event or time_s is null where the line has none
-- reads: lines(json, file_no, line), records {"event": …, "properties": {…}} as text, or no JSON at all; variables project_id, load_id
with picked as (
    select json, file_no, line,
           try(json_extract_string(json, ['$.event', '$.properties', '$.properties.time', '$.properties.distinct_id',
               '$.properties."$distinct_id_before_identity"', '$.properties."$insert_id"',
               '$.properties."$user_id"', '$.properties."$device_id"', '$.properties."$mp_api_timestamp_ms"',
               '$.properties.mp_processing_time_ms', '$.properties."$source"', '$.properties."$partner_id"',
               '$.properties."$import"', '$.properties."$identity_failure_reason"',
               '$.properties."$failure_reason"'])) as p
    from lines
)
select getvariable('project_id')::varchar as project_id,
       case when looks_unquoted(p[1]) then if(json_type(json, '$.event') = 'VARCHAR', p[1], null)
            else nullif(p[1], '') end as event,
       epoch_s(p[3]) as time_s,
       p[4] as distinct_id,
       p[5] as before_id,
       valid_id(p[6]) as insert_id,
       valid_id(p[7]) as user_id,
       bare_device(p[8]) as device_id,
       coalesce(try_cast(p[9] as bigint), try_cast(p[10] as bigint), epoch_s(p[3]) * 1000) as ingest_ms,
       coalesce(try_cast(p[10] as bigint), try_cast(p[9] as bigint), 0) as processed_ms,
       nullif(p[11], '') as source,
       nullif(p[12], '') as partner_id,
       coalesce(p[13] = 'true', false) as imported,
       nullif(p[14], '') as identity_failure,
       nullif(p[15], '') as failure,
       p[2] as properties,
       getvariable('load_id')::integer as load_id,
       file_no, line,
       cast(make_timestamp(epoch_s(p[3]) * 1000000) as date) as day
from picked
