-- one row per profile id of the staged objects, the last one of an id
-- reads: objects(json, file_no, line), in the order given: {"$distinct_id", "$properties"}, a row of the warehouse's
-- mp_people_data (distinct_id, properties; maybe in upper case) or flat
with split as (
    select id_of(json) as distinct_id,
           coalesce(json_extract(json, '$."$properties"'), people_properties(json), json_merge_patch(json,
               '{"$distinct_id": null, "distinct_id": null, "Distinct ID": null, "DISTINCT_ID": null}')) as properties,
           rowid as place
    from objects
),
named as (
    select distinct_id, properties,
           coalesce(json_extract(properties, '$."$email"'), json_extract(properties, '$.Email')) as email,
           json_extract_string(properties, ['$."$first_name"', '$."First Name"', '$."$last_name"',
                                            '$."Last Name"', '$."$last_seen"', '$."Updated at"']) as p
    from split
    qualify row_number() over (partition by distinct_id order by place desc) = 1
),
spelt as (
    select *, regexp_replace(lower(json_extract_string(email, '$')), '^[\s\p{Z}]+|[\s\p{Z}]+$', '', 'g') as text
    from named
)
select getvariable('project_id')::varchar as project_id, distinct_id,
       len(json_keys(properties))::integer as property_count,
       case when email is null or json_type(email) = 'NULL' or (json_type(email) = 'VARCHAR' and text = '') then 'none'
            when json_type(email) = 'VARCHAR' then 'text' else 'other' end as email_kind,
       case when json_type(email) = 'VARCHAR' then nullif(text, '') end as address,
       coalesce(p[1], p[2]) as first_name, coalesce(p[3], p[4]) as last_name,
       try_cast(try_cast(coalesce(p[5], p[6]) as timestamptz) as timestamp) as last_seen_at,
       properties
from spelt
where valid_id(distinct_id) is not null
