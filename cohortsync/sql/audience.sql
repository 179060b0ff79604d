-- one row per id of the cohort: its user and the one reason why it is exported or not
-- $cohort, and what seen_profiles.sql takes, which stands for $seen_profiles
with members as (
    select m.distinct_id, coalesce(i.canonical_id, m.distinct_id) as canonical_id
    from cohort_members m
    left join identities i on i.project_id = m.project_id and i.distinct_id = m.distinct_id
    where m.project_id = $project_id and m.cohort = $cohort
),
placed as (
    select *, row_number() over (partition by canonical_id
                                 order by distinct_id = canonical_id desc, distinct_id) as place
    from members
),
users as (select canonical_id from placed),
judged as (
    select m.*, p.address, p.first_name, p.last_name, p.last_seen_at,
           case when place > 1 then 'merged'
                when p.canonical_id is null then 'no_profile'
                when p.email_kind = 'none' then 'no_email'
                when p.email_kind = 'other' then 'email_not_string'
                when not a.valid then 'email_invalid' end as reason
    from placed m
    left join ($seen_profiles) p on p.canonical_id = m.canonical_id
    left join addresses a on a.address = p.address
)
select distinct_id, canonical_id,
       coalesce(reason, case when row_number() over (
               partition by reason, address order by last_seen_at desc nulls last, canonical_id) > 1
           then 'duplicate_email' else 'exportable' end) as reason,
       address, first_name, last_name, last_seen_at
from judged
order by distinct_id
