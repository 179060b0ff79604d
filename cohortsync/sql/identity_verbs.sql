-- one row per identity verb and its two usable ids in the staged rows, where it was first received
-- To repeat a verb later changes nothing: what it joined stays joined, what refused it refuses it still.
with verbs as (
    select *, coalesce(valid_id(before_id), valid_id(distinct_id)) as sent_id,
           json_extract_string(properties, '$."$distinct_ids"') as pair
    from staged
    where event in ('$identify', '$create_alias', '$merge') and failure is null
),
named as (
    select project_id, ingest_ms, time_s, coalesce(insert_id, '') as insert_id, event as verb,
           case event when '$identify'
                      then coalesce(valid_id(json_extract_string(properties, '$."$identified_id"')), sent_id)
                      when '$create_alias' then sent_id
                      else case when json_array_length(pair) = 2 then json_extract_string(pair, '$[0]') end
           end as first_id,
           case event when '$identify' then json_extract_string(properties, '$."$anon_id"')
                      when '$create_alias' then json_extract_string(properties, '$.alias')
                      else json_extract_string(pair, '$[1]') end as second_id
    from verbs
)
select project_id, received.ingest_ms, received.time_s, received.insert_id, verb, first_id, second_id
from (select project_id, verb, first_id, second_id,
             min({ingest_ms: ingest_ms, time_s: time_s, insert_id: insert_id}) as received
      from named where valid_id(first_id) is not null and valid_id(second_id) is not null
      group by all)
