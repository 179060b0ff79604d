-- What counts as an id: anything but the placeholders that Mixpanel refuses.
-- Source: https://docs.mixpanel.com/reference/import-events (distinct_id)
-- A list and not IN, of which DuckDB makes a join that looks at every id, short or not.
create or replace macro valid_id(id) as
    case when id is null or strlen(id) between 10 and 35 or strlen(id) > 36 then id
         when strlen(id) = 36 then nullif(id, '00000000-0000-0000-0000-000000000000')
         when list_position(['', 'anon', 'anonymous', 'nil', 'none', 'null', 'n/a', 'na', 'undefined', 'unknown', '<nil>',
                             '0', '-1', 'true', 'false', '[]', '{}', 'lmy47d'], lower(id)) > 0 then null
    else id end;
-- A device id without the prefix that exports put before it.
create or replace macro bare_device(id) as
    if(starts_with(id, '$device:'), valid_id(substr(id, 9)), valid_id(id));
-- A valid id, be it a device's with its prefix.
create or replace macro prefixed_id(id) as
    if(starts_with(id, '$device:'), '$device:' || valid_id(substr(id, 9)), valid_id(id));
-- The id an event is tracked under in an original project, before verbs merge ids.
create or replace macro original_id(user_id, device_id, before_id, distinct_id) as valid_id(distinct_id);
-- The same in a simplified project, before devices are linked to users.
-- Source: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
create or replace macro simplified_id(user_id, device_id, before_id, distinct_id) as
    coalesce(user_id, '$device:' || device_id,
             if(valid_id(before_id) is null, prefixed_id(distinct_id), prefixed_id(before_id)));
-- The value of a property by its Mixpanel name, as text: prop('$city') of the row's own properties, or
-- prop(e.properties, '$city') where several tables have some. A JSON pointer takes any name, be it of
-- dots, quotes or dollar signs; "name || ''" puts off the look for a column properties until the query.
create or replace macro prop(name) as
    json_extract_string(properties, '/' || replace(replace(name || '', '~', '~0'), '/', '~1')),
(json, name) as
    json_extract_string(json, '/' || replace(replace(name || '', '~', '~0'), '/', '~1'));
