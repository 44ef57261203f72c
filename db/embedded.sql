-- Everything a store of our own needs before its first start, run by `postgres --single`
-- in template1. A statement ends with a semicolon and an empty line. Nobody can log in as a
-- superuser afterwards: pg_hba.conf admits these two roles only.

-- owner: owns the database and its tables, creates neither roles nor databases
CREATE ROLE campaign LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;

-- reader: may connect; SELECT on views is granted with the tables
CREATE ROLE campaign_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOINHERIT
    CONNECTION LIMIT 10;

ALTER ROLE campaign_reader SET default_transaction_read_only = on;

ALTER ROLE campaign_reader SET statement_timeout = '60s';

ALTER ROLE campaign_reader SET lock_timeout = '5s';

ALTER ROLE campaign_reader SET idle_in_transaction_session_timeout = '60s';

-- a superuser's setting: the reader cannot raise it
ALTER ROLE campaign_reader SET temp_file_limit = '1GB';

REVOKE ALL ON SCHEMA public FROM PUBLIC;

GRANT USAGE ON SCHEMA public TO PUBLIC;

-- large objects are writable by every role otherwise
REVOKE EXECUTE ON FUNCTION
    lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;

-- as if initdb had done so: a dump by the owner must not repeat what only a superuser may do
INSERT INTO pg_init_privs
    SELECT oid, 'pg_proc'::regclass, 0, 'i', proacl FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea');

CREATE DATABASE campaign OWNER campaign TEMPLATE template1;

REVOKE ALL ON DATABASE campaign FROM PUBLIC;

GRANT CONNECT ON DATABASE campaign TO campaign_reader;

-- nobody is admitted there
DROP DATABASE postgres;

REVOKE ALL ON DATABASE template1 FROM PUBLIC;

