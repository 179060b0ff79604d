-- one row per month: the bill in its readings as they stood at $as_of; one per version of it with $every_version
-- $project_id; $qualifying, $engagement, $delivery: the kinds that each class holds under the options (bits);
-- $guardrail_events: all, qualifying or qualifying+opens; $events_per_user: the guardrail's ratio
with versions as (
    select month, as_of, load_id, complete from month_versions
    where project_id = $project_id and as_of <= $as_of
    qualify $every_version or as_of = max(as_of) over (partition by month)
),
counted as (
    select month, as_of, sum(users) filter (kinds & $qualifying <> 0) as mtu,
           sum(users) filter (kinds & ($qualifying | $engagement | $delivery) <> 0) as mtu_without_exemption,
           sum(users) filter (kinds & ($qualifying | $engagement) <> 0) as mtu_engagement_counted
    from month_users where project_id = $project_id group by all
),
totals as (
    select month, as_of, sum(events)::bigint as events,
           sum(events) filter ($guardrail_events = 'all' or kind & $qualifying <> 0
                               or ($guardrail_events = 'qualifying+opens' and event in (
                                   'Mailchimp Campaign - Open', 'Mailchimp - Opened Campaign'))) as guardrail_events
    from month_events where project_id = $project_id group by all
)
select $project_id as project_id, month, coalesce(mtu, 0)::bigint as mtu,
       coalesce(mtu_without_exemption, 0)::bigint as mtu_without_exemption,
       coalesce(mtu_engagement_counted, 0)::bigint as mtu_engagement_counted,
       (coalesce(mtu_without_exemption, 0) - coalesce(mtu, 0))::bigint as exempt_users, events,
       ceil(coalesce(guardrail_events, 0) / $events_per_user)::bigint as guardrail,
       greatest(coalesce(mtu, 0), ceil(coalesce(guardrail_events, 0) / $events_per_user))::bigint as billable,
       complete, as_of, load_id
from versions join totals using (month, as_of) left join counted using (month, as_of)
order by month, as_of
