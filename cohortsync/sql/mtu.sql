-- one row per month: the bill in its readings
-- $project_id; $marked_only: a Mailchimp event is exempt only with $source = mailchimp;
-- $guardrail_events: all, qualifying or qualifying+opens; $events_per_user: the guardrail's ratio
with users as (
    select month, qualifying + if($marked_only, engagement_unmarked + delivery_unmarked, 0) as qualifying,
           engagement - if($marked_only, engagement_unmarked, 0) as engagement,
           delivery - if($marked_only, delivery_unmarked, 0) as delivery
    from user_months where project_id = $project_id
),
counted as (
    select month, count(*) filter (qualifying > 0) as mtu,
           count(*) filter (qualifying + engagement + delivery > 0) as mtu_without_exemption,
           count(*) filter (qualifying + engagement > 0) as mtu_engagement_counted
    from users group by month
),
totals as (
    select month, sum(a.events)::bigint as events,
           sum(a.events) filter ($guardrail_events = 'all' or c.class is null
                                 or ($guardrail_events = 'qualifying+opens' and a.event in (
                                     'Mailchimp Campaign - Open', 'Mailchimp - Opened Campaign')))::bigint
               as guardrail_events
    from activity a left join event_classes c on c.event = a.event
    where project_id = $project_id group by month
)
select $project_id as project_id, m.month, coalesce(mtu, 0) as mtu,
       coalesce(mtu_without_exemption, 0) as mtu_without_exemption,
       coalesce(mtu_engagement_counted, 0) as mtu_engagement_counted,
       coalesce(mtu_without_exemption - mtu, 0) as exempt_users, coalesce(events, 0) as events,
       ceil(coalesce(guardrail_events, 0) / $events_per_user)::bigint as guardrail,
       greatest(coalesce(mtu, 0), ceil(coalesce(guardrail_events, 0) / $events_per_user)::bigint) as billable,
       complete
from months m join totals using (month) left join counted using (month)
order by m.month
