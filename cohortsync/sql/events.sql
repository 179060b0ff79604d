-- one row per event, duplicates left out
select *, make_timestamp(time_s * 1000000) as occurred_at from $source
