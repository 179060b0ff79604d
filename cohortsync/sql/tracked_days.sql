-- one row per day: how many tracked users it had, and how many of them are seen for the first time in its month
-- reads: deeds; $qualifying: the kinds that make a user tracked (bits)
select day, count(*) as users, count(*) filter (day = first_on) as new_users
from (select day, canonical_id, min(day) over (partition by date_trunc('month', day), canonical_id) as first_on
      from (select distinct day, canonical_id from deeds where kind & $qualifying <> 0))
group by day order by day
