-- one row per user asked for who has a profile: the values of properties, as JSON, in the order asked
-- $project_id, $users, $original (whether an id's user may be seen through another id's profile), $pointers (JSON)
with users as (select unnest($users::varchar[]) as canonical_id)
select coalesce(i.canonical_id, p.distinct_id) as canonical_id, json_extract(p.properties, $pointers) as found
from profiles p
left join identities i on i.project_id = p.project_id and i.distinct_id = p.distinct_id
where p.project_id = $project_id and p.property_count > 0
  and ($original or p.distinct_id = coalesce(i.canonical_id, p.distinct_id))
  and coalesce(i.canonical_id, p.distinct_id) in (select canonical_id from users)
qualify row_number() over (partition by coalesce(i.canonical_id, p.distinct_id)
                           order by p.distinct_id = coalesce(i.canonical_id, p.distinct_id) desc, p.distinct_id) = 1
