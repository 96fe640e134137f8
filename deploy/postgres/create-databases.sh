#!/bin/bash
# Runs once, when the volume is new: a database for each service, and a role that owns it and can open no other.
set -euo pipefail

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres "$@"; }

create_database() {
  sql --set name="$1" --set password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

sql --command 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'

# What the services delete is made room of before their tables grow; the default is a minute.
sql --command "ALTER SYSTEM SET autovacuum_naptime = '10s'"

create_database user_service "$USER_SERVICE_DATABASE_PASSWORD"
create_database email_service "$EMAIL_SERVICE_DATABASE_PASSWORD"
create_database orchestrator "$ORCHESTRATOR_DATABASE_PASSWORD"
