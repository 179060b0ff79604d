-- one row per pair of ids that Mixpanel itself shows to be one user: rewritten in an export, or in its mappings
-- $project_id; reads: ids
select o.number as first, t.number as second
from (select distinct_id, before_id as other_id from generation.rekeys where project_id = $project_id
      union all
      select distinct_id, resolved_id from generation.identity_mappings where project_id = $project_id) shown
join ids o on o.id = shown.distinct_id
join ids t on t.id = shown.other_id
