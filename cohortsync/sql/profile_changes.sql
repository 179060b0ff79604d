-- one row per profile that is about to be replaced and property that differs, but for the time of the update
-- $load_id, $changed_at; reads: new_profiles, generation.profiles as they stand
with replaced as (
    select n.project_id, n.distinct_id, o.properties as before, n.properties as after
    from new_profiles n join generation.profiles o on o.project_id = n.project_id and o.distinct_id = n.distinct_id
    where o.properties::varchar <> n.properties::varchar
),
sides as (
    select project_id, distinct_id, key as property, value as before, null::json as after
    from replaced, json_each(before) where json_type(before) = 'OBJECT'
    union all
    select project_id, distinct_id, key, null, value from replaced, json_each(after) where json_type(after) = 'OBJECT'
)
select project_id, distinct_id, $load_id::integer as load_id, $changed_at::timestamp as changed_at, property,
       any_value(before) as before, any_value(after) as after
from sides
where property not in ('$last_seen', 'Updated at')
group by project_id, distinct_id, property
having any_value(before)::varchar is distinct from any_value(after)::varchar
