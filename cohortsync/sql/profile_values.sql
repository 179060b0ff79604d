-- one row per user asked for who has a profile: the values of properties, as JSON, in the order asked
-- $users, $pointers (JSON), and what seen_profiles.sql takes, which stands for $seen_profiles
with users as (select unnest($users::varchar[]) as canonical_id)
select canonical_id, json_extract(properties, $pointers) as found
from ($seen_profiles)
