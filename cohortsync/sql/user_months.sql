-- one row per user and month with an event of any class but system: which kinds of event (bits), how many in all
-- reads: users_activity, new_events (the kind of each event name and marker); variables project_id, anonymous
with kinds as (
    select distinct event, marker, kind from new_events where kind > 0
),
by_id as (  -- far fewer rows than activity has, to ask whose they are
    select date_trunc('month', day) as month_on, distinct_id, bit_or(kind) as kinds, sum(a.events)::bigint as events
    from users_activity a
    join kinds k on k.event = a.event and k.marker is not distinct from a.marker
    where distinct_id <> ''
    group by all
),
reduced as (
    select month_on, coalesce(canonical_id, b.distinct_id) as canonical_id, bit_or(kinds) as kinds,
           sum(events)::bigint as events
    from by_id b
    left join generation.identities i
        on i.project_id = getvariable('project_id')::varchar and i.distinct_id = b.distinct_id
    group by all
)
select getvariable('project_id')::varchar as project_id, strftime(month_on, '%Y-%m') as month, canonical_id,
       regexp_full_match(canonical_id, getvariable('anonymous')::varchar, 'is') as anonymous, kinds, events
from reduced
