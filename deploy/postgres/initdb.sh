#!/bin/sh
# For the postgres image of docker-compose.yml, which runs this once, on an empty data directory: the roles and schemas of the services.
set -eu
for service in gateway image iscsi boot hil; do
  name=$(echo "$service" | tr a-z A-Z)
  export "M2_DATABASE_PASSWORD_$name=$(cat "/run/secrets/database-$service")"
done
exec psql -X --username "$POSTGRES_USER" --dbname postgres --file /etc/m2/bootstrap.sql
