-- What counts as an id: anything but the placeholders that Mixpanel refuses.
-- Source: https://docs.mixpanel.com/reference/import-events (distinct_id)
create or replace macro valid_id(id) as
    case when id is null or lower(id) in (
        '', '00000000-0000-0000-0000-000000000000', 'anon', 'anonymous', 'nil', 'none', 'null', 'n/a', 'na',
        'undefined', 'unknown', '<nil>', '0', '-1', 'true', 'false', '[]', '{}', 'lmy47d') then null
    else id end;
-- A device id without the prefix that exports put before it.
create or replace macro bare_device(id) as
    valid_id(case when starts_with(id, '$device:') then substr(id, 9) else id end);
-- Seconds from whatever clients send: epoch seconds, epoch milliseconds or ISO 8601 (UTC where none is said).
create or replace macro epoch_s(t) as
    case when abs(try_cast(t as double)) < 1e11 then floor(try_cast(t as double))::bigint
         when abs(try_cast(t as double)) < 1e14 then floor(try_cast(t as double) / 1000)::bigint
         when try_cast(t as double) is null then floor(epoch(try_cast(t as timestamptz)))::bigint end;
-- The id an event is tracked under in a simplified project, before devices are linked to users.
-- Source: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
create or replace macro simplified_id(user_id, device_id, before_id, distinct_id) as
    coalesce(user_id, '$device:' || device_id,
             case when starts_with(coalesce(valid_id(before_id), valid_id(distinct_id)), '$device:')
                  then '$device:' || bare_device(coalesce(valid_id(before_id), valid_id(distinct_id)))
                  else coalesce(valid_id(before_id), valid_id(distinct_id)) end);
