-- one row per property name of the sampled rows; names that differ only in case are two
-- reads: sampled(properties)
with pairs as (
    select key as property, value::varchar as value,
           case when type = 'VARCHAR' and regexp_matches(value::varchar, '^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d') then 'date'
                when type = 'VARCHAR' then 'string'
                when type in ('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT') then 'number'
                when type = 'ARRAY' then 'list'
                else lower(type) end as type
    from sampled, json_each(properties)
    where json_type(properties) = 'OBJECT'
)
select property,
       count(*) filter (type <> 'null') as filled,
       count(*) filter (type <> 'null') / (select count(*) from sampled) as fill_rate,
       to_json(histogram(type)) as types,
       count(distinct type) filter (type <> 'null') > 1 as drifts,
       least(approx_count_distinct(value) filter (type <> 'null'), filled) as distinct_values,
       to_json(approx_top_k(left(value, 400), 3) filter (type <> 'null')) as examples,
       (select count(*) from sampled) as sampled
from pairs
group by property
order by filled desc, property
