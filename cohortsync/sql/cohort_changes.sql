-- one row per id that is in one of two snapshots of a cohort and not in the other, and why
-- $project_id, $cohort, $since_load, $until_load; $since, $until: when they were loaded;
-- $first_on, $last_on: the same as days of the project
-- A trait is a property that changed or an event done in between. Each id gets, of its user's traits, the one
-- that sets those who moved most apart from those who did not: share of the ones less share of the others.
with ids as (
    select distinct_id, coalesce(i.canonical_id, distinct_id) as canonical_id, was, is_now
    from (select distinct_id, bool_or(load_id = $since_load) as was, bool_or(load_id = $until_load) as is_now
          from cohort_snapshots
          where project_id = $project_id and cohort = $cohort and load_id in ($since_load, $until_load)
          group by distinct_id)
    left join (from identities where project_id = $project_id) i using (distinct_id)
),
users as (select canonical_id, bool_or(was) as was, bool_or(is_now) as is_now from ids group by canonical_id),
done as (
    select distinct coalesce(i.canonical_id, a.distinct_id) as canonical_id, a.event
    from activity a
    left join (from identities where project_id = $project_id) i using (distinct_id)
    where a.project_id = $project_id and a.day between $first_on and $last_on and a.distinct_id <> ''
      and a.event not in (select event from event_classes where class = 'system')
),
profiles_changed as (
    select distinct_id, property, json_extract_string(first(before order by load_id), '$') as before,
           json_extract_string(last(after order by load_id), '$') as after
    from profile_changes
    where project_id = $project_id and changed_at > $since and changed_at <= $until
    group by distinct_id, property
),
changed as (
    select coalesce(i.canonical_id, p.distinct_id) as canonical_id, property, before, after
    from profiles_changed p
    left join (from identities where project_id = $project_id) i using (distinct_id)
    where before is distinct from after
    qualify row_number() over (partition by coalesce(i.canonical_id, p.distinct_id), property
                               order by i.canonical_id is null desc, distinct_id) = 1
),
traits as (
    select canonical_id, 1 as rank, 'property' as reason, property as name from changed
    union all
    select canonical_id, 2, 'event', event from done
),
known as (
    select canonical_id from users
    union select canonical_id from traits
    union select coalesce(i.canonical_id, p.distinct_id) from profiles p
    left join (from identities where project_id = $project_id) i using (distinct_id)
    where p.project_id = $project_id
),
sides as (
    select canonical_id, case when coalesce(was, false) then 'left' else 'entered' end as change,
           coalesce(was, false) is distinct from coalesce(is_now, false) as moved
    from known left join users using (canonical_id)
),
totals as (select change, count(*) filter (moved) as movers, count(*) filter (not moved) as others from sides group by all),
shares as (
    select change, rank, reason, name, count(*) filter (moved) / nullif(any_value(movers), 0) as share_moved,
           coalesce(count(*) filter (not moved) / nullif(any_value(others), 0), 0) as share_others
    from traits join sides using (canonical_id) join totals using (change)
    group by change, rank, reason, name
    having share_moved > share_others
),
reasons as (
    select canonical_id, s.*
    from traits t join sides using (canonical_id) join shares s using (change, rank, name)
    where moved
    qualify row_number() over (partition by canonical_id
                               order by share_moved - share_others desc, rank, name) = 1
)
select $project_id as project_id, $cohort as cohort, case when i.was then 'left' else 'entered' end as change,
       i.distinct_id, i.canonical_id,
       case when u.was and u.is_now then 'merged' else coalesce(r.reason, 'unknown') end as reason,
       r.name, c.before, c.after, r.share_moved, r.share_others
from ids i
join users u using (canonical_id)
left join reasons r on r.canonical_id = i.canonical_id
left join changed c on c.canonical_id = i.canonical_id and r.reason = 'property' and c.property = r.name
where i.was <> i.is_now
order by change, i.distinct_id
