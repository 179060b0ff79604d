-- one row per id of the staged objects of one cohort
-- reads: objects(json, file_no, line): engage rows, flat rows, or bare ids
select distinct id_of(json) as distinct_id from objects
