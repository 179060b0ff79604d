-- one row per day, tracked id, event and marker: the user it belongs to and the kind (bit) it counts as
-- $project_id; $since, $until: the days, the last exclusive
with kinds as (
    select distinct event, marker, kind from month_events
    where project_id = $project_id and (month, as_of) in (
        select (month, max(as_of)) from month_versions where project_id = $project_id group by month)
)
select a.day, coalesce(i.canonical_id, a.distinct_id) as canonical_id, a.event, kind, events
from activity a
join kinds k on k.event = a.event and k.marker is not distinct from a.marker
left join identities i on i.project_id = a.project_id and i.distinct_id = a.distinct_id
where a.project_id = $project_id and a.distinct_id <> '' and a.day >= $since and a.day < $until
