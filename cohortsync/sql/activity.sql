-- one row per local calendar day, tracked id, event name and marker: the counts in a set of event rows
-- reads: event_rows (with tracked_id), day_offsets(day, offset_s, changes_at_s, later_offset_s)
select project_id, cast(make_timestamp((time_s + if(time_s < changes_at_s, offset_s, later_offset_s)) * 1000000) as date) as day,
       tracked_id as distinct_id, event,
       case when lower(source) = 'mailchimp' then 'mailchimp'
            when source is not null or partner_id is not null then 'other' end as marker,
       count(*)::bigint as events
from event_rows e join day_offsets o on o.day = e.day
group by all
