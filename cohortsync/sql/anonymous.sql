-- one row per month: how many of its tracked users are known by a device alone
-- $project_id; $qualifying: the kinds that make a user tracked (bits)
with standing as (
    select project_id, month, max(as_of) as as_of, arg_max(complete, as_of) as complete
    from month_versions where project_id = $project_id group by all
)
select project_id, month, coalesce(sum(users) filter (kinds & $qualifying <> 0), 0)::bigint as mtu,
       coalesce(sum(users) filter (kinds & $qualifying <> 0 and anonymous), 0)::bigint as anonymous_users,
       round(anonymous_users / nullif(mtu, 0), 4) as anonymous_share, complete
from standing join month_users using (project_id, month, as_of)
group by all order by month
