-- one row per user whose months may be others now: whose ids did something, or went from one user to another
-- $project_id; reads: touched (ids whose activity changed), identities_before
with identities_now as (from generation.identities where project_id = $project_id),
moved as (
    (from identities_before except from identities_now) union all (from identities_now except from identities_before)
)
select coalesce(canonical_id, distinct_id) as canonical_id from touched left join identities_now using (distinct_id)
union
select unnest([distinct_id, canonical_id]) from moved
