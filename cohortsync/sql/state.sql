-- the tables of state.sqlite: see docs/data-model.md for what one row of each is (no semicolon but at a statement's end)
create table if not exists workspace (
    version integer not null, generation integer not null, salt text not null,
    format integer not null default 0) strict;
create table if not exists projects (
    project_id text primary key, timezone text not null, id_merge text not null,
    event_times text not null default 'auto', created_at text not null, admin_assumed_at text) strict;
create table if not exists connections (
    kind text not null, project_id text not null default '', account_id text not null, account_name text not null,
    role text not null, host text not null, base_url text not null, rehearsal integer not null,
    new_contacts text not null, status text not null, reason text not null, checked_at text not null,
    primary key (kind, project_id)) strict;
create table if not exists mixpanel_cohorts (
    project_id text not null, cohort_id text not null, cohort text not null, name text not null,
    announced integer, members integer, with_profile integer, checked_at text not null,
    primary key (project_id, cohort_id), unique (project_id, cohort)) strict;
create table if not exists pulls (
    pull_id text primary key, project_id text not null, status text not null, started_at text not null,
    finished_at text, receipt text not null) strict;
create table if not exists pulled_days (
    project_id text not null, day text not null, path text not null, events integer not null,
    pulled_at text not null, loaded integer not null,
    primary key (project_id, day)) strict;
create table if not exists webhook_sessions (
    project_id text not null, cohort_id text not null, session_id text not null, number integer not null,
    status text not null, started_at text not null, applied_at text, answered_at text,
    pages integer not null default 0, result text not null default '',
    primary key (project_id, cohort_id, session_id)) strict;
create table if not exists webhook_pages (
    project_id text not null, cohort_id text not null, session_id text not null, action text not null,
    page integer not null, total integer not null, path text not null, received_at text not null,
    primary key (project_id, cohort_id, session_id, action, page)) strict;
create table if not exists segments (
    account_id text not null, audience_id text not null, project_id text not null, cohort text not null,
    segment_id integer, name text not null, created_at text not null,
    primary key (account_id, audience_id, project_id, cohort)) strict;
create table if not exists runs (
    run_id text primary key, project_id text not null, cohort text not null, account_id text not null,
    audience_id text not null, audience_name text not null, rehearsal integer not null,
    status text not null, started_at text not null, finished_at text, receipt text not null) strict;
create table if not exists batches (
    run_id text not null references runs, number integer not null, kind text not null, people integer not null,
    sent_at text not null, answered_at text, outcome text not null, primary key (run_id, number)) strict;
create table if not exists rejects (
    account_id text not null, audience_id text not null, member_hash text not null, reason text not null,
    expires_at text not null, primary key (account_id, audience_id, member_hash)) strict;
create table if not exists syncs (
    sync_id text primary key, project_id text not null, cohort text not null, cohort_id text not null,
    account_id text not null, account_name text not null, audience_id text not null, audience_name text not null,
    rehearsal integer not null, kind text not null, status text not null, reason text not null,
    plan_run_id text not null, created_at text not null, due_at text not null, terms text not null default '{}',
    unique (project_id, cohort, account_id, audience_id)) strict;
create table if not exists sync_runs (
    run_id text primary key, sync_id text not null, status text not null, reason text not null,
    started_at text not null, finished_at text, receipt text not null) strict;
create table if not exists notices (
    event text not null, channel text not null, subject text not null, text text not null, created_at text not null,
    told_at text, primary key (event, channel)) strict;
create table if not exists backups (path text primary key, made_at text not null) strict;
create table if not exists forgotten (person_hash text primary key, forgotten_at text not null) strict;
