-- one row per event row that is a duplicate of one ingested later
-- reads: candidates (the new rows and the rows already kept of the same days), repeated (their keys that occur again)
with ranked as (
    select project_id, day, load_id, file_no, line,
           row_number() over (partition by event, time_s, coalesce(before_id, distinct_id, ''), insert_id
                              order by processed_ms desc, load_id desc, file_no desc, line desc) as place
    from candidates
    where insert_id is not null
      and hash(time_s, insert_id) in (from repeated)
)
select project_id, day, load_id, file_no, line from ranked where place > 1
