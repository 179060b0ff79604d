-- What counts as an id: anything but the placeholders that Mixpanel refuses.
-- Source: https://docs.mixpanel.com/reference/import-events (distinct_id)
create or replace macro valid_id(id) as
    case when id is null or lower(id) in (
        '', '00000000-0000-0000-0000-000000000000', 'anon', 'anonymous', 'nil', 'none', 'null', 'n/a', 'na',
        'undefined', 'unknown', '<nil>', '0', '-1', 'true', 'false', '[]', '{}', 'lmy47d') then null
    else id end;
-- The id of a row of profiles or members: engage, flat, as the UI's CSV names it, or the bare id itself.
create or replace macro id_of(json) as
    case json_type(json)
        when 'OBJECT' then coalesce(json_extract_string(json, '$."$distinct_id"'),
                                    json_extract_string(json, '$.distinct_id'),
                                    json_extract_string(json, '$."Distinct ID"'))
        when 'ARRAY' then null
        else json_extract_string(json, '$') end;
-- A device id without the prefix that exports put before it.
create or replace macro bare_device(id) as
    valid_id(case when starts_with(id, '$device:') then substr(id, 9) else id end);
-- Seconds from whatever clients send: epoch seconds, epoch milliseconds or ISO 8601 (UTC where none is said).
-- Null where it is no time, or one outside the years that calendars can hold (68 to 5138).
create or replace macro any_epoch(t) as
    case when try_cast(t as double) is null then epoch(try_cast(t as timestamptz))
         when abs(try_cast(t as double)) < 1e11 then try_cast(t as double)
         else try_cast(t as double) / 1000 end;
create or replace macro epoch_s(t) as
    case when any_epoch(t) >= -6e10 and any_epoch(t) < 1e11 then floor(any_epoch(t))::bigint end;
-- The id an event is tracked under in a simplified project, before devices are linked to users.
-- Source: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
create or replace macro simplified_id(user_id, device_id, before_id, distinct_id) as
    coalesce(user_id, '$device:' || device_id,
             case when starts_with(coalesce(valid_id(before_id), valid_id(distinct_id)), '$device:')
                  then '$device:' || bare_device(coalesce(valid_id(before_id), valid_id(distinct_id)))
                  else coalesce(valid_id(before_id), valid_id(distinct_id)) end);
