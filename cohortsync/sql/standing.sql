-- one row per audience read so far and status there: how many exportable users of the cohort ('not in it': new to it)
-- reads: reckoned, the people as audience.sql gives them; audience_members
-- The hash is Mailchimp's: https://mailchimp.com/developer/marketing/docs/methods-parameters/
select a.audience_id, coalesce(m.status, 'not in it') as status, count(*) as people
from reckoned p
cross join (select distinct audience_id from audience_members) a
left join audience_members m on m.audience_id = a.audience_id and m.member_hash = md5(p.address)
where p.reason = 'exportable'
group by all
order by a.audience_id, people desc
