-- one row per id of the staged objects, with the id it is resolved to by the last of its rows
-- reads: objects(json, file_no, line), in the order given: {"distinct_id", "resolved_distinct_id"}
select getvariable('project_id')::varchar as project_id, id_of(json) as distinct_id, resolved_id_of(json) as resolved_id
from objects
qualify row_number() over (partition by id_of(json) order by rowid desc) = 1
