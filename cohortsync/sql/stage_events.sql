-- one row per line of one file of events, in the file's order; event or time_s is null where the line has none
-- reads: lines(json, line, byte_offset), nested or flat records; variables project_id, load_id, file_no
with picked as (
    select json, line, byte_offset,
           json_extract_string(json, ['$.event', '$.properties.time', '$.properties.distinct_id',
               '$.properties."$distinct_id_before_identity"', '$.properties."$insert_id"',
               '$.properties."$user_id"', '$.properties."$device_id"', '$.properties."$mp_api_timestamp_ms"',
               '$.properties.mp_processing_time_ms', '$.properties."$source"',
               '$.properties."$identity_failure_reason"', '$.properties."$failure_reason"', '$.properties',
               '$.time', '$.distinct_id', '$."$distinct_id_before_identity"', '$."$insert_id"', '$."$user_id"',
               '$."$device_id"', '$."$mp_api_timestamp_ms"', '$.mp_processing_time_ms', '$."$source"',
               '$."$identity_failure_reason"', '$."$failure_reason"']) as nested
    from lines
),
chosen as (
    select json, line, byte_offset, nested[1] as event,
           case when starts_with(nested[13], '{') then nested[2:13]
                else nested[14:24] || [json_merge_patch(json, '{"event": null}')::varchar] end as p
    from picked
)
select getvariable('project_id')::varchar as project_id,
       case when json_type(json, '$.event') = 'VARCHAR' then nullif(event, '') end as event,
       epoch_s(p[1]) as time_s,
       p[2] as distinct_id,
       p[3] as before_id,
       valid_id(p[4]) as insert_id,
       valid_id(p[5]) as user_id,
       bare_device(p[6]) as device_id,
       coalesce(try_cast(p[7] as bigint), try_cast(p[8] as bigint), epoch_s(p[1]) * 1000) as ingest_ms,
       coalesce(try_cast(p[8] as bigint), try_cast(p[7] as bigint), 0) as processed_ms,
       p[9] as source,
       nullif(p[10], '') as identity_failure,
       nullif(p[11], '') as failure,
       p[12]::json as properties,
       getvariable('load_id')::integer as load_id,
       getvariable('file_no')::integer as file_no,
       line, byte_offset
from chosen
