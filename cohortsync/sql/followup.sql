-- one row per cohort and action, and per action of everyone (cohort is null): what Mailchimp's mails led to
-- $project_id; $since, $until: the days, the last exclusive; reads: activity, identities, cohort_members
with actions as (
    select action, step, unnest(events) as event from (values
        ('sent', 1, ['Mailchimp Campaign - Sent', 'Mailchimp - Sent To']),
        ('opened', 2, ['Mailchimp Campaign - Open', 'Mailchimp - Opened Campaign']),
        ('clicked', 3, ['Mailchimp Campaign - Click', 'Mailchimp - Clicked Campaign Url']),
        ('bounced', 4, ['Mailchimp Campaign - Bounce', 'Mailchimp - Bounced']),
        ('unsubscribed', 5, ['Mailchimp Campaign - Unsubscribed', 'Mailchimp - Unsubscribed'])) as t(action, step, events)
),
owners as (
    select distinct_id, canonical_id from identities where project_id = $project_id
),
members as (
    select distinct m.cohort, coalesce(o.canonical_id, m.distinct_id) as canonical_id
    from cohort_members m left join owners o using (distinct_id)
    where m.project_id = $project_id
),
deeds as (
    select step, coalesce(o.canonical_id, a.distinct_id) as canonical_id, sum(a.events) as events,
           coalesce(sum(a.events) filter (a.marker = 'mailchimp'), 0) as marked
    from activity a join actions using (event) left join owners o using (distinct_id)
    where a.project_id = $project_id and a.distinct_id <> '' and a.day >= $since and a.day < $until
    group by all
),
counted as (
    select cohort, step, count(*) as users, sum(events) as events, sum(marked) as marked
    from members join deeds using (canonical_id) group by all
    union all by name
    select null::varchar as cohort, step, count(*) as users, sum(events) as events, sum(marked) as marked
    from deeds group by all
),
grid as (
    select cohort, action, step
    from (select distinct cohort from members union all select null) cross join (select distinct action, step from actions)
)
select $project_id as project_id, grid.cohort, action, coalesce(users, 0)::bigint as users,
       coalesce(events, 0)::bigint as events,
       coalesce(users, 0) / nullif(first(users) over (partition by grid.cohort order by grid.step), 0) as share_of_sent,
       marked / events as marked_share
from grid left join counted on counted.step = grid.step and counted.cohort is not distinct from grid.cohort
order by grid.cohort nulls last, grid.step
