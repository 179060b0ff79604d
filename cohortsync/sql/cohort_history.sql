-- one row per snapshot of a cohort: its size, and who entered and left since the one before
-- $project_id, $cohort
with snapshots as (
    select load_id, loaded_at, size, row_number() over (order by loaded_at, load_id) as place
    from cohort_sizes where project_id = $project_id and cohort = $cohort
),
stays as (
    select distinct_id, place,
           lag(place) over (partition by distinct_id order by place) is distinct from place - 1 as enters,
           lead(place) over (partition by distinct_id order by place) is distinct from place + 1 as leaves
    from cohort_snapshots join snapshots using (load_id)
    where project_id = $project_id and cohort = $cohort
),
moves as (
    select place, count(*) as entered, 0 as left_it from stays where enters group by place
    union all
    select place + 1, 0, count(*) from stays where leaves group by place
)
select $project_id as project_id, $cohort as cohort, s.load_id, s.loaded_at, s.size,
       coalesce(sum(m.entered), 0)::bigint as entered, coalesce(sum(m.left_it), 0)::bigint as "left"
from snapshots s left join moves m using (place)
group by all
order by s.loaded_at, s.load_id
