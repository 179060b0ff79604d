-- one row per event, duplicates left out; occurred_at is an instant (UTC) also where time_s is of the zone's clocks,
-- and the later of the two where those clocks show a time twice
select e.*, if(c.timezone is null, make_timestamp(e.time_s * 1000000),
               make_timestamp(e.time_s * 1000000) at time zone c.timezone at time zone 'UTC') as occurred_at
from $source e
left join generation.clocks c on c.project_id = e.project_id and c.event_times = 'local'
anti join generation.superseded s on s.load_id = e.load_id and s.file_no = e.file_no and s.line = e.line
