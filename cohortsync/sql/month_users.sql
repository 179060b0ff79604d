-- one row per month, set of kinds and anonymous or not: how many users did exactly these
select project_id, month, kinds, anonymous, count(*) as users
from generation.user_months where project_id = getvariable('project_id') group by all
