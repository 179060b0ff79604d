-- one row per month whose numbers are not those that stand: the version it gets
-- reads: new_events, new_users; parameters: the instant, the load
with standing as (
    select month, max(as_of) as as_of, arg_max(complete, as_of) as complete
    from generation.month_versions where project_id = getvariable('project_id') group by month
),
before as (
    select month, 'events' as what, complete, event as a, marker as b, kind, events as n
    from generation.month_events join standing using (month, as_of) where project_id = getvariable('project_id')
    union all
    select month, 'users', anonymous, null, null, kinds, users
    from generation.month_users join standing using (month, as_of) where project_id = getvariable('project_id')
),
after as (
    select month, 'events' as what, complete, event as a, marker as b, kind, events as n
    from new_events join generation.months using (project_id, month)
    union all
    select month, 'users', anonymous, null, null, kinds, users from new_users
),
changed as (
    select month from ((from before except from after) union all (from after except from before)) group by month
)
-- later than any before it, whatever the clock says
select getvariable('project_id')::varchar as project_id, month,
       greatest(?::timestamp, (select max(as_of) + interval 1 microsecond from standing)) as as_of,
       ?::integer as load_id, coalesce(complete, false) as complete
from changed left join (from generation.months where project_id = getvariable('project_id')) using (month)
