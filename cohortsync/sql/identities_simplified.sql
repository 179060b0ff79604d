-- one row per id that belongs to another id's user
-- $project_id. First the warehouse's mappings, in which who stands for others stands for themselves; then, for
-- devices, Mixpanel's own rewriting where an export shows it; else the first user seen.
with mappings as (select * from generation.identity_mappings where project_id = $project_id),
heads as (select distinct resolved_id as distinct_id from mappings),
mapped as (
    select distinct_id, min(resolved_id) as canonical_id
    from mappings anti join heads using (distinct_id) group by all
),
owned as (
    select '$device:' || device_id as distinct_id,
           coalesce(max(user_id) filter (verdict), max(user_id) filter (not verdict)) as user_id
    from generation.device_links where project_id = $project_id group by all
),
resolved as (
    from mapped
    union all
    select o.distinct_id, coalesce(m.canonical_id, o.user_id)
    from (from owned anti join mapped using (distinct_id) anti join heads using (distinct_id)) o
    left join mapped m on m.distinct_id = o.user_id
)
select $project_id as project_id, * from resolved where distinct_id <> canonical_id
