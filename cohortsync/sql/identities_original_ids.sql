-- one row per id that the evidence names, numbered by code point; precedence: how good a name for its user it is
-- $project_id; $anonymous: the pattern of anonymous forms. Precedence 0: Mixpanel's mappings resolve to it, 1 an export
-- shows rows rewritten to it (the latest first), 2 has an address, 3 (left free) identified, 4 named, 5 anonymous
with evidence as (
    select first_id as id from generation.identity_verbs where project_id = $project_id
    union all select second_id from generation.identity_verbs where project_id = $project_id
    union all select unnest([distinct_id, before_id]) from generation.rekeys where project_id = $project_id
    union all select unnest([distinct_id, resolved_id]) from generation.identity_mappings
              where project_id = $project_id
),
heads as (select distinct resolved_id as id from generation.identity_mappings where project_id = $project_id),
targets as (
    select distinct_id as id, max(ingest_ms) as ingest_ms,
           arg_max(time_s, ingest_ms::hugeint * 1099511627776 + time_s) as time_s
    from generation.rekeys where project_id = $project_id group by all
),
reachable as (
    select distinct distinct_id as id from generation.profiles where project_id = $project_id and email_kind = 'text'
),
formed as (select id, regexp_full_match(id, $anonymous) as anonymous from (select distinct id from evidence))
select id, anonymous, (row_number() over (order by id) - 1)::integer as number,
       case when h.id is not null then 0 when t.id is not null then 1 when r.id is not null then 2
            when anonymous then 5 else 4 end::tinyint as precedence,
       if(precedence = 1, t.ingest_ms, 0) as ingest_ms, if(precedence = 1, t.time_s, 0) as time_s
from formed f left join heads h using (id) left join targets t using (id) left join reachable r using (id)
