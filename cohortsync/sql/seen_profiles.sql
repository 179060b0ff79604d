-- one row per user of `users` (canonical_id) who has a profile: the profile through which they are seen
-- $project_id, $original (whether an id's user may be seen through another id's profile)
select coalesce(i.canonical_id, p.distinct_id) as canonical_id, p.email_kind, p.address, p.first_name, p.last_name,
       p.last_seen_at, p.properties
from profiles p
left join identities i on i.project_id = p.project_id and i.distinct_id = p.distinct_id
where p.project_id = $project_id and p.property_count > 0
  and ($original or p.distinct_id = coalesce(i.canonical_id, p.distinct_id))
  and coalesce(i.canonical_id, p.distinct_id) in (select canonical_id from users)
qualify row_number() over (partition by coalesce(i.canonical_id, p.distinct_id)
                           order by p.distinct_id = coalesce(i.canonical_id, p.distinct_id) desc, p.distinct_id) = 1
