-- one row per period and event name: the users whose only qualifying event of the period it is
-- reads: deeds; $period: month or day; $qualifying: the kinds that make a user tracked (bits)
select period_on, event, count(*) as sole_users
from (select date_trunc($period, day)::date as period_on, canonical_id, min(event) as event
      from deeds where kind & $qualifying <> 0 group by all having min(event) = max(event))
group by all
