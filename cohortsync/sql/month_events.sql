-- one row per month, event name and marker: the kind it is of, a bit, and how many there were
-- 1 qualifying; 2 engagement, 4 without Mailchimp's mark; 8 delivery, 16 without; 32 partner, 64 unmarked; 0 system
with counted as (
    select project_id, date_trunc('month', day) as month_on, event, marker, sum(events)::bigint as events
    from generation.activity where project_id = getvariable('project_id') group by all
)
select project_id, strftime(month_on, '%Y-%m') as month, event, marker,
       case class when 'system' then 0
                  when 'engagement' then if(marker = 'mailchimp', 2, 4)
                  when 'delivery' then if(marker = 'mailchimp', 8, 16)
                  when 'partner' then if(marker is not null, 32, 64)
                  else 1 end::utinyint as kind, events
from counted left join generation.event_classes using (event)
