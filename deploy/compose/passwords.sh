#!/bin/bash
# The passwords of the store's logins, from the environment of the container, when its data folder is
# made. They pass through no command line. Untested in a container, as compose.yaml says.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" \
    --dbname "$POSTGRES_DB" <<'SQL'
\getenv owner CAMPAIGN_OWNER_PASSWORD
\getenv worker CAMPAIGN_WORKER_PASSWORD
\getenv reader CAMPAIGN_READER_PASSWORD
alter role campaign password :'owner';
alter role campaign_worker password :'worker';
alter role campaign_reader password :'reader';
SQL
