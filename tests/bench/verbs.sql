-- one row per identity verb of an original project: people identified on several devices, again and again
-- reads: variable verbs. Some share a phone with their neighbour, some verbs are refused, one id passes the cap.
with drawn as (
    select range as i, (hash(range, 1) % 1000000007)::bigint as r,
           floor(getvariable('verbs') * 0.4 * (hash(range, 2) / 18446744073709551616) ** 1.4)::bigint as person
    from range(getvariable('verbs'))
),
placed as (
    select *, 'user_' || substr(md5('person' || person), 1, 14) as user_id,
           'user_' || substr(md5('person' || xor(person, 1)), 1, 14) as neighbour,
           md5('phone' || if(r % 100 < 2, xor(person, 1), person) || '-' || r % 3) as m
    from drawn
)
select 'local' as project_id, 1782864000000 + i * 1000 as ingest_ms, 1782864000 + i as time_s,
       substr(md5(i::varchar), 1, 16) as insert_id,
       case when r % 100 < 92 then '$identify' when r % 100 < 99 then '$create_alias' else '$merge' end as verb,
       case when r % 100 = 5 and r % 7 = 0 then 'guest_' || m[1:10]
            when r % 100 = 95 and person < 5000 then 'importer' else user_id end as first_id,
       case when r % 100 = 5 then 'guest_' || m[1:10]
            when r % 100 < 92 then lower(concat_ws('-', m[1:8], m[9:12], '4' || m[13:15], 'a' || m[16:18], m[19:30]))
            when r % 100 < 99 then 'crm_' || person * 3 + r % 2
            else neighbour end as second_id
from placed
