-- one row per month and event name: who did it, who would not be tracked without it, and what the bill would lose
-- reads: deeds, sole (by month); $project_id, $month (null: all); $qualifying: the kinds that make a user tracked
-- (bits); $guardrail_events, $events_per_user as for the readings
select $project_id as project_id, month, event, counts_as, events, coalesce(users, 0) as users,
       coalesce(sole_users, 0) as sole_users, coalesce(mtus, 0) as mtu,
       greatest(mtu, ceil(sum(weight) over months / $events_per_user))::bigint as billable,
       billable - greatest(mtu - coalesce(sole_users, 0),
                           ceil((sum(weight) over months - weight) / $events_per_user))::bigint as billable_effect
from (
    select month, as_of, event, sum(events)::bigint as events,
           coalesce(sum(events) filter (
               $guardrail_events = 'all' or kind & $qualifying <> 0 or ($guardrail_events = 'qualifying+opens' and event
                   in ('Mailchimp Campaign - Open', 'Mailchimp - Opened Campaign'))), 0) as weight,
           case when max(kind & $qualifying) <> 0 then 'qualifying' when max(kind) = 0 then 'system' else 'exempt' end
               as counts_as
    from month_events
    where project_id = $project_id and ($month is null or month = $month) and (month, as_of) in (
        select (month, max(as_of)) from month_versions where project_id = $project_id group by month)
    group by all)
left join (
    select month, as_of, sum(users) filter (kinds & $qualifying <> 0)::bigint as mtus
    from month_users where project_id = $project_id group by all) using (month, as_of)
left join (
    select strftime(day, '%Y-%m') as month, event, count(distinct canonical_id) as users from deeds group by all)
    using (month, event)
left join (select strftime(period_on, '%Y-%m') as month, event, sole_users from sole) using (month, event)
window months as (partition by month)
order by month, coalesce(sole_users, 0) desc, users desc, event
