-- one row per month and page whose names for Mailchimp's events occurred
-- reads: defaults, the classes as they ship; $project_id
select project_id, month, source as page, sum(events)::bigint as events
from month_events join defaults using (event)
where project_id = $project_id and class in ('engagement', 'delivery') and (month, as_of) in (
    select (month, max(as_of)) from month_versions where project_id = $project_id group by month)
group by all order by month, page
