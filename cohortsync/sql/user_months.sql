-- one row per user and month: how many of its events fall in each class
select a.project_id, a.month, coalesce(i.canonical_id, a.distinct_id) as canonical_id,
       coalesce(sum(events) filter (class is null), 0)::bigint as qualifying,
       coalesce(sum(events) filter (class = 'engagement'), 0)::bigint as engagement,
       coalesce(sum(events) filter (class = 'engagement' and not marked), 0)::bigint as engagement_unmarked,
       coalesce(sum(events) filter (class = 'delivery'), 0)::bigint as delivery,
       coalesce(sum(events) filter (class = 'delivery' and not marked), 0)::bigint as delivery_unmarked
from generation.activity a
left join generation.identities i on i.project_id = a.project_id and i.distinct_id = a.distinct_id
left join generation.event_classes c on c.event = a.event
where a.distinct_id <> '' and class is distinct from 'system'
group by all
