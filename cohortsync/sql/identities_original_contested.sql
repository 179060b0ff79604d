-- one row per contested identity verb, its ids as their numbers, in ingest order
-- reads: contested(row, first, second)
select verb, c.first, c.second
from contested c join generation.identity_verbs v on v.rowid = c.row
order by ingest_ms, time_s, insert_id, verb, first_id, second_id
