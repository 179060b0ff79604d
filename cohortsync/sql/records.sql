-- What only a load needs: the shapes that records come in, after macros.sql.
-- The id of a row of profiles or members: engage, flat, as the UI's CSV names it, or the bare id itself.
create or replace macro id_of(json) as
    case json_type(json)
        when 'OBJECT' then coalesce(json_extract_string(json, '$."$distinct_id"'),
                                    json_extract_string(json, '$.distinct_id'),
                                    json_extract_string(json, '$."Distinct ID"'),
                                    json_extract_string(json, '$.DISTINCT_ID'))
        when 'ARRAY' then null
        else json_extract_string(json, '$') end;
-- The id that a row of the warehouse's mp_identity_mappings_data resolves its own to.
create or replace macro resolved_id_of(json) as
    coalesce(json_extract_string(json, '$.resolved_distinct_id'), json_extract_string(json, '$.RESOLVED_DISTINCT_ID'));
-- Seconds from whatever clients send: epoch seconds, epoch milliseconds or ISO 8601 (UTC where none is said).
-- Null where it is no time, or one outside the years that calendars can hold (68 to 5138).
create or replace macro any_epoch(t) as
    case when try_cast(t as double) is null then epoch(try_cast(t as timestamptz))
         when abs(try_cast(t as double)) < 1e11 then try_cast(t as double)
         else try_cast(t as double) / 1000 end;
create or replace macro epoch_s(t) as
    case when strlen(t) = 10 and try_cast(t as integer) is not null then try_cast(t as bigint)
         when any_epoch(t) >= -6e10 and any_epoch(t) < 1e11 then floor(any_epoch(t))::bigint end;
-- An object that may be written as text, as warehouses do; null where it is neither.
create or replace macro as_object(json) as
    case when json_type(json) = 'OBJECT' then json
         when json_type(try_cast(json ->> '$' as json)) = 'OBJECT' then try_cast(json ->> '$' as json) end;
-- The properties of a row of the warehouse's mp_people_data; null where it is none.
-- Source: https://docs.mixpanel.com/docs/data-pipelines/json-pipelines
create or replace macro people_properties(json) as
    as_object(case when json_type(json, '$.distinct_id') is not null then json_extract(json, '$.properties')
                   when json_type(json, '$.DISTINCT_ID') is not null then json_extract(json, '$.PROPERTIES') end);
-- A TIMESTAMP as epoch seconds, in which a blank may part the zone from the time; as it is where it is none.
-- The first case is the usual one; a cast to timestamp does not look at the zone, to timestamptz is slow.
create or replace macro warehouse_time(json) as
    coalesce(to_json(case
        when regexp_full_match(json ->> '$', '(19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|UTC|[+-]00(:?00)?))?')
            then floor(epoch(try_cast(json ->> '$' as timestamp)))::bigint
        else epoch_s(regexp_replace(json ->> '$', ' (Z|[+-]\d\d:?\d\d)$', '\1')) end), json);
-- A row of mp_master_event as a warehouse writes it (Snowflake: in upper case), in the export's own shape. Its columns
-- stand above what properties say of the same; properties that are no object are null, absent ones the other columns.
-- Source: https://docs.mixpanel.com/docs/data-pipelines/json-pipelines
create or replace macro warehouse_properties(json, given) as
    case when given is null or given = 'null' then json_merge_patch(json, '{"event_name": null, "EVENT_NAME": null,
             "properties": null, "PROPERTIES": null, "TIME": null, "DISTINCT_ID": null, "device_id": null,
             "DEVICE_ID": null, "insert_id": null, "INSERT_ID": null, "user_id": null, "USER_ID": null}')
         else as_object(given) end;
create or replace macro with_columns(properties, columns) as
    case when properties is not null then json_merge_patch(properties, json_merge_patch('{}', columns)) end;
create or replace macro warehouse_record(json) as
    list_transform([json_extract(json, ['$.event_name', '$.EVENT_NAME', '$.properties', '$.PROPERTIES', '$.time',
            '$.TIME', '$.distinct_id', '$.DISTINCT_ID', '$.device_id', '$.DEVICE_ID', '$.insert_id', '$.INSERT_ID',
            '$.user_id', '$.USER_ID'])],
        lambda c: json_object('event', coalesce(c[1], c[2]), 'properties', with_columns(
            warehouse_properties(json, coalesce(c[3], c[4])),
            json_object('time', warehouse_time(coalesce(c[5], c[6])), 'distinct_id', coalesce(c[7], c[8]),
                        '$device_id', coalesce(c[9], c[10]), '$insert_id', coalesce(c[11], c[12]),
                        '$user_id', coalesce(c[13], c[14])))))[1];
create or replace macro is_warehouse_event(json) as
    coalesce(json_type(json, '$.event_name'), json_type(json, '$.EVENT_NAME')) is not null;
create or replace macro flat_record(json) as
    json_object('event', json_extract(json, '$.event'), 'properties', json_merge_patch(json, '{"event": null}'));
-- Any record of an event in the export's own shape, {"event": …, "properties": {…}}; others are given it.
create or replace macro as_record(json) as
    case when json_type(json, '$.event') is not null
             then case when json_type(json, '$.properties') = 'OBJECT' then json else flat_record(json) end
         when is_warehouse_event(json) then warehouse_record(json)
    else flat_record(json) end;
-- Why a row is none of the profiles, cohort members or identity mappings that it was loaded as; null where it is one.
create or replace macro stranger(json, kind) as
    case when valid_id(id_of(json)) is null or (kind <> 'cohort' and json_type(json) <> 'OBJECT')
             then 'no $distinct_id'
         when is_warehouse_event(json) or (json_extract_string(json, '$.event') is not null
                                           and json_extract_string(json, '$.time') is not null) then 'an event'
         when kind <> 'mappings' and resolved_id_of(json) is not null then 'an identity mapping'
         when kind = 'mappings' and valid_id(resolved_id_of(json)) is null then 'no resolved_distinct_id' end;
-- The name and the properties of a record in the export's own shape, as text; a name that is no text is none.
create or replace macro name_of(record) as
    if(json_type(record, '$.event') = 'VARCHAR', json_extract_string(record, '$.event'), null);
create or replace macro properties_of(record) as json_extract_string(record, '$.properties');
