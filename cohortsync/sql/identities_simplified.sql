-- one row per device that belongs to a user: Mixpanel's own answer where an export shows it, else the first seen
select project_id, '$device:' || device_id as distinct_id,
       coalesce(max(user_id) filter (verdict), max(user_id) filter (not verdict)) as canonical_id
from generation.device_links
group by all
