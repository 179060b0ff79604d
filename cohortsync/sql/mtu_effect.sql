-- one row: the newest month, how many of $users have a qualifying event in it, which of Mailchimp's events qualify
-- $project_id, $users, $qualifying (bits); reads: defaults (the event classes that ship)
select month,
       (select count(*) from user_months u
        where u.project_id = $project_id and u.month = newest.month and u.kinds & $qualifying <> 0
          and u.canonical_id in (select unnest($users::varchar[]))) as tracked,
       (select coalesce(list(d.event order by d.event), []) from defaults d left join event_classes c using (event)
        where d.class in ('engagement', 'delivery') and coalesce(c.class, 'qualifying') = 'qualifying') as counted
from (select max(month) as month from months where project_id = $project_id) newest
