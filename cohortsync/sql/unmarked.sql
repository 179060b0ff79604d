-- one row per month and user who is tracked only where events without their mark count, with those events
-- reads: deeds; $project_id; $by_name, $marked: the kinds that make a user tracked when the name alone exempts,
-- and when the mark is asked for (bits)
select $project_id as project_id, u.month, u.canonical_id,
       list_sort(list(distinct event) filter (kind & $marked <> 0)) as events
from user_months u
join deeds d on d.canonical_id = u.canonical_id and strftime(d.day, '%Y-%m') = u.month
where u.project_id = $project_id and u.kinds & $by_name = 0 and u.kinds & $marked <> 0
group by all order by u.month, u.canonical_id
