# What the official image does at its start, as far as docker/compose.yaml needs it.
set -eu
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chown postgres: "$PGDATA"
    chmod 700 "$PGDATA"
    (umask 077 && printf %s "$POSTGRES_PASSWORD" > /password && chown postgres: /password)
    $as_postgres initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" --pwfile=/password --auth-local=trust --auth-host=scram-sha-256
    rm /password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | $as_postgres postgres --single postgres
fi
exec $as_postgres postgres -c listen_addresses='*'
