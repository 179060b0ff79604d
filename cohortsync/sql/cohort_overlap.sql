-- one row per pair of cohorts: ids in both, users in both, and their share of each cohort's users
-- $project_id, $cohorts (their names, in the order to show)
with members as (
    select m.cohort, m.distinct_id, coalesce(i.canonical_id, m.distinct_id) as canonical_id
    from cohort_members m
    left join identities i on i.project_id = m.project_id and i.distinct_id = m.distinct_id
    where m.project_id = $project_id and m.cohort in (select unnest($cohorts))
),
users as (select distinct cohort, canonical_id from members),
sizes as (
    select c.cohort, list_position($cohorts, c.cohort) as place, count(u.cohort) as users
    from (select unnest($cohorts) as cohort) c left join users u on u.cohort = c.cohort
    group by c.cohort
),
pairs as (
    select a.cohort, b.cohort as other, a.users, b.users as other_users, a.place, b.place as other_place
    from sizes a join sizes b on a.place < b.place
),
same_ids as (
    select a.cohort, b.cohort as other, count(*) as ids
    from members a join members b on a.distinct_id = b.distinct_id and a.cohort <> b.cohort group by all
),
same_users as (
    select a.cohort, b.cohort as other, count(*) as users
    from users a join users b on a.canonical_id = b.canonical_id and a.cohort <> b.cohort group by all
)
select $project_id as project_id, p.cohort, p.other, p.users, p.other_users,
       coalesce(i.ids, 0) as ids_in_both, coalesce(u.users, 0) as users_in_both,
       coalesce(u.users, 0) / nullif(p.users, 0) as share, coalesce(u.users, 0) / nullif(p.other_users, 0) as other_share
from pairs p
left join same_ids i on i.cohort = p.cohort and i.other = p.other
left join same_users u on u.cohort = p.cohort and u.other = p.other
order by p.place, p.other_place
