-- one row per id of the staged objects of one cohort
-- reads: objects(json, file_no, line): engage rows, flat rows, or bare ids as JSON text
select distinct case when json_type(json) = 'OBJECT'
    then coalesce(json_extract_string(json, '$."$distinct_id"'), json_extract_string(json, '$.distinct_id'),
                  json_extract_string(json, '$."Distinct ID"'))
    else json_extract_string(json, '$') end as distinct_id
from objects
