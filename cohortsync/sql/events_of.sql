-- one row per event of a name, the latest first
-- $project_id, $event, $original, $from_s, $from_on (null: from the first), $limit; $picked: the columns
with tracked as (
    select *, case when $original then valid_id(distinct_id)
                   else simplified_id(user_id, device_id, before_id, distinct_id) end as tracked_id
    from events
    where project_id = $project_id and event = $event
      and ($from_s is null or (time_s >= $from_s and day >= $from_on))
)
select $picked
from tracked e
left join identities i on i.project_id = e.project_id and i.distinct_id = e.tracked_id
order by e.time_s desc, e.load_id desc, e.file_no desc, e.line desc
limit $limit
