-- Three logins of a store on a server of one's own. Run it by a superuser in the store's database,
-- before the first `campaign db upgrade` and again after every one. A right on the store's objects
-- that it does not name it takes away, so that running it restores exactly these.
--
--   psql --dbname campaign --set ON_ERROR_STOP=1 --single-transaction --file deploy/roles.sql
--
-- campaign         owner: `campaign db upgrade`, dump and restore. Nobody measures with it.
-- campaign_worker  runs campaigns: claims, measures, voids, retries. No DDL; deletes nothing that was
--                  measured.
-- campaign_reader  analyst: `campaign query`, Grafana. Reads, and nothing else.
--
-- No password stands here: `\password campaign_worker` sets one, or the server's own login methods.

do $$
declare
    role text;
begin
    foreach role in array array['campaign', 'campaign_worker', 'campaign_reader'] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I', role);
        end if;
        execute format('alter role %I login nosuperuser nocreatedb nocreaterole noreplication '
                       'nobypassrls noinherit', role);
    end loop;
end $$;

-- Not a boundary, as a session may set them back; a help against mistakes.
alter role campaign_reader set default_transaction_read_only = on;
alter role campaign_reader set statement_timeout = '60s';
alter role campaign_reader set lock_timeout = '5s';
alter role campaign_reader set idle_in_transaction_session_timeout = '60s';

do $$
begin
    execute format('alter database %I owner to campaign', current_database());
    execute format('revoke all on database %I from public, campaign_worker, campaign_reader',
                   current_database());
    -- An enqueue stages its rows in a temporary table.
    execute format('grant connect, temporary on database %I to campaign_worker',
                   current_database());
    execute format('grant connect on database %I to campaign_reader', current_database());
end $$;

alter schema public owner to campaign;
revoke all on schema public from public, campaign_worker, campaign_reader;
grant usage on schema public to campaign_worker, campaign_reader;

-- Large objects are writable by every role otherwise.
revoke execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) from public;

-- Both read everything, and what the next upgrade brings: views are made anew by each.
alter default privileges for role campaign in schema public
    revoke all on tables from public, campaign_worker, campaign_reader;
alter default privileges for role campaign in schema public
    grant select on tables to campaign_worker, campaign_reader;
revoke all on all tables in schema public from public, campaign_worker, campaign_reader;
revoke all on all sequences in schema public from public, campaign_worker, campaign_reader;
grant select on all tables in schema public to campaign_worker, campaign_reader;

-- What a run writes. Rows are facts: none of an attempt, a session or a window is ever deleted, and
-- a window is never changed. A table that this version does not have yet is left out.
do $$
declare
    allowed record;
begin
    for allowed in
        select * from (values
            ('campaigns', 'insert, update'),         -- created, its configuration refreshed
            ('engines', 'insert'),
            ('protocols', 'insert'),
            ('tasks', 'insert, update'),             -- enqueued; their states, leases and counters
            ('campaign_tasks', 'insert, delete'),    -- what a campaign asks for
            ('exclusions', 'insert, delete'),        -- replaced by each run
            ('sessions', 'insert, update'),          -- opened, described, closed
            ('attempts', 'insert, update'),          -- opened by a claim, closed, voided
            ('windows', 'insert'),
            ('gpu_energies', 'insert'),
            ('phases', 'insert'),
            ('power_traces', 'insert'),
            ('external_rows', 'insert')              -- imported; a wrong one the owner deletes
        ) as rights (name, verbs)
        where to_regclass(format('public.%I', name)) is not null
    loop
        execute format('grant %s on public.%I to campaign_worker', allowed.verbs, allowed.name);
    end loop;
end $$;
