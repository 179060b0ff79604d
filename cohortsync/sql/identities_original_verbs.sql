-- one row per identity verb, its ids as their numbers, that is not refused whatever came before it
-- $project_id; reads: ids
select v.rowid as row, f.number as first, s.number as second,
       verb = '$identify' as identifies, verb = '$create_alias' as aliases
from generation.identity_verbs v
join ids f on f.id = v.first_id
join ids s on s.id = v.second_id
where v.project_id = $project_id and v.first_id <> v.second_id and (verb <> '$identify' or s.anonymous)
