-- The tables of one generation; each comment gives the grain. Times ending _s are epoch seconds (UTC).

-- one row: when this generation was published
create table published (generation integer, as_of timestamp);
-- one row per load
create table loads (load_id integer, loaded_at timestamp);
-- one row per file ever loaded; digest: BLAKE3 of its decompressed bytes, SHA-256 where an older release loaded it;
-- rows: taken from it, duplicates included; pulled_on: the day it is all of
create table files (load_id integer, file_no integer, project_id varchar, kind varchar, cohort varchar, file varchar,
                    digest varchar, rows bigint, quarantined bigint, pulled_on date);
-- one row per line that could not be taken
create table quarantine (load_id integer, file varchar, line bigint, byte_offset bigint, reason varchar);
-- one row per Parquet file of events; rows: stored in it, superseded ones included
create table event_files (project_id varchar, day date, path varchar, rows bigint, first_s bigint, last_s bigint);
-- one row per stored event row that is a duplicate of one ingested later
create table superseded (project_id varchar, day date, load_id integer, file_no integer, line bigint);
-- one row per project, load, day and quarter of an hour by which events were processed after their time
create table lags (project_id varchar, load_id integer, day date, lag_s bigint, events bigint);
-- one row per project: its zone, and whether its events' time_s are UTC (utc) or seconds of the zone's clocks (local)
create table clocks (project_id varchar, timezone varchar, event_times varchar);
-- no row ever: the columns of the event files; properties is JSON as text
create table no_events (
    project_id varchar, event varchar, time_s bigint, distinct_id varchar, before_id varchar, insert_id varchar,
    user_id varchar, device_id varchar, ingest_ms bigint, processed_ms bigint, source varchar, partner_id varchar,
    imported boolean, identity_failure varchar, failure varchar, properties varchar, load_id integer, file_no integer, line bigint, day date);

-- one row per profile as last loaded; email_kind: none, text or other; address: trimmed, lower-cased
create table profiles (project_id varchar, distinct_id varchar, property_count integer, email_kind varchar,
                       address varchar, first_name varchar, last_name varchar, last_seen_at timestamp,
                       properties json);
-- one row per address ever seen in a profile
create table addresses (address varchar, valid boolean);
-- one row per cohort, as last loaded
create table cohorts (project_id varchar, cohort varchar, load_id integer, loaded_at timestamp, size bigint);
-- one row per cohort and id, as last loaded
create table cohort_members (project_id varchar, cohort varchar, distinct_id varchar);
-- one row per cohort, load and id
create table cohort_snapshots (project_id varchar, cohort varchar, load_id integer, loaded_at timestamp,
                               distinct_id varchar);

-- one row per cohort and snapshot, also of a cohort with nobody in it
create table cohort_sizes (project_id varchar, cohort varchar, load_id integer, loaded_at timestamp, size bigint);
-- one row per cohort that is defined here; defined_at: first; failure: why it could not be reckoned last time
create table cohort_definitions (project_id varchar, cohort varchar, sql varchar, defined_at timestamp,
                                 failure varchar);
-- one row per profile, load and property that the load changed; $last_seen changes with every update and is left out
create table profile_changes (project_id varchar, distinct_id varchar, load_id integer, changed_at timestamp,
                              property varchar, before json, after json);

-- one row per device and kind of evidence: the first user seen with it (false), Mixpanel's own answer (true)
create table device_links (project_id varchar, device_id varchar, verdict boolean, user_id varchar,
                           ingest_ms bigint, time_s bigint, insert_id varchar);
-- one row per distinct $identify, $create_alias or $merge that Mixpanel did not mark as refused
create table identity_verbs (project_id varchar, ingest_ms bigint, time_s bigint, insert_id varchar, verb varchar,
                             first_id varchar, second_id varchar);
-- one row per pair of ids that an export shows rewritten: distinct_id now, before_id as sent
create table rekeys (project_id varchar, distinct_id varchar, before_id varchar, ingest_ms bigint, time_s bigint);
-- one row per id that the warehouse export's own mapping table resolves, as last loaded
create table identity_mappings (project_id varchar, distinct_id varchar, resolved_id varchar);
-- one row per id that belongs to another id's user
create table identities (project_id varchar, distinct_id varchar, canonical_id varchar);

-- one row per calendar month of the project's time zone that the events touch; ends_on is exclusive;
-- complete: events reach from its first day to its last
create table months (project_id varchar, month varchar, first_on date, ends_on date, complete boolean);
-- one row per calendar day of the project's time zone, id as tracked ('' when the event has no user), event name
-- and marker: mailchimp ($source says so), other (another $source, or a $partner_id), null
create table activity (project_id varchar, day date, distinct_id varchar, event varchar, marker varchar,
                       events bigint);
-- one row per event name that is not simply qualifying, or was set by hand
create table event_classes (event varchar, class varchar, source varchar);
-- one row per user and month with an event of any class but system; kinds: which kinds of event, as bits
create table user_months (project_id varchar, month varchar, canonical_id varchar, anonymous boolean, kinds utinyint,
                          events bigint);
-- one row per month and instant at which its numbers changed; the latest stands
create table month_versions (project_id varchar, month varchar, as_of timestamp, load_id integer, complete boolean);
-- one row per version of a month, set of kinds (bits), and anonymous or not: the users who did exactly these
create table month_users (project_id varchar, month varchar, as_of timestamp, kinds utinyint, anonymous boolean,
                          users bigint);
-- one row per version of a month, event name and marker; kind: the bit it counts as, 0 in no reading
create table month_events (project_id varchar, month varchar, as_of timestamp, event varchar, marker varchar,
                           kind utinyint, events bigint);
-- no row ever: the columns of an audience's mirror
create table no_audience_members (member_hash varchar, address varchar, status varchar, last_changed varchar,
                                  tags varchar, audience_id varchar);
