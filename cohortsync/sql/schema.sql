-- The tables of one generation; each comment gives the grain. Times ending _s are epoch seconds (UTC).

-- one row per load
create table loads (load_id integer, loaded_at timestamp);
-- one row per file ever loaded; rows: taken from it, duplicates included
create table files (load_id integer, file_no integer, kind varchar, cohort varchar, file varchar, sha256 varchar,
                    rows bigint, quarantined bigint);
-- one row per line that could not be taken
create table quarantine (load_id integer, file varchar, line bigint, byte_offset bigint, reason varchar);
-- one row per Parquet file of events
create table event_files (day date, path varchar, rows bigint, first_s bigint, last_s bigint);
-- no row ever: the columns of the event files
create table no_events (
    project_id varchar, event varchar, time_s bigint, distinct_id varchar, before_id varchar, insert_id varchar,
    user_id varchar, device_id varchar, ingest_ms bigint, processed_ms bigint, source varchar,
    properties json, load_id integer, file_no integer, line bigint, day date);

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

-- one row per device and kind of evidence: the first user seen with it (false), Mixpanel's own answer (true)
create table device_links (project_id varchar, device_id varchar, verdict boolean, user_id varchar,
                           ingest_ms bigint, time_s bigint, insert_id varchar);
-- one row per distinct $identify, $create_alias or $merge that Mixpanel did not mark as refused
create table identity_verbs (project_id varchar, ingest_ms bigint, time_s bigint, insert_id varchar, verb varchar,
                             first_id varchar, second_id varchar);
-- one row per pair of ids that an export shows rewritten: distinct_id now, before_id as sent
create table rekeys (project_id varchar, distinct_id varchar, before_id varchar, ingest_ms bigint, time_s bigint);
-- one row per id that belongs to another id's user
create table identities (project_id varchar, distinct_id varchar, canonical_id varchar);

-- one row per calendar month of the project's time zone that the events touch; ends_s is exclusive;
-- complete: events reach from its first day to its last
create table months (month varchar, starts_s bigint, ends_s bigint, complete boolean);
-- one row per month, id as tracked ('' when the event has no user), event name and $source = mailchimp or not
create table activity (project_id varchar, month varchar, distinct_id varchar, event varchar, marked boolean,
                       events bigint);
-- one row per event name that is not simply qualifying
create table event_classes (event varchar, class varchar, source varchar);
-- one row per user and month: events by class; *_unmarked: of these, without $source = mailchimp
create table user_months (project_id varchar, month varchar, canonical_id varchar, qualifying bigint,
                          engagement bigint, engagement_unmarked bigint,
                          delivery bigint, delivery_unmarked bigint);
-- no row ever: the columns of an audience's mirror
create table no_audience_members (member_hash varchar, address varchar, status varchar, last_changed varchar,
                                  tags varchar, audience_id varchar);
