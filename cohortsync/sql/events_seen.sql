-- one row per event name: how many events and users, from its first day to its last
-- $project_id; reads: activity, identities, event_classes
with classes as (select event, min(class) as class from event_classes group by event)
select a.project_id, a.event, sum(a.events)::bigint as events,
       count(distinct coalesce(i.canonical_id, a.distinct_id)) filter (a.distinct_id <> '') as users,
       min(a.day)::varchar as first_on, max(a.day)::varchar as last_on, coalesce(any_value(c.class), 'qualifying') as class
from activity a
left join identities i on i.project_id = a.project_id and i.distinct_id = a.distinct_id
left join classes c on c.event = a.event
where a.project_id = $project_id
group by a.project_id, a.event
order by events desc, a.event
