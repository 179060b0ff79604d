-- one row per month, tracked id, event name and mark: the counts in a set of event rows
select e.project_id, m.month, coalesce(simplified_id(user_id, device_id, before_id, distinct_id), '') as distinct_id,
       event, coalesce(lower(source) = 'mailchimp', false) as marked, count(*) as events
from event_rows e join generation.months m on e.time_s >= m.starts_s and e.time_s < m.ends_s
group by all
