#!/usr/bin/env bash
# Runs one PostgreSQL and one Mosquitto for all tests of a run, from the system's binaries, in a temporary folder.
# The first test process starts it (tests/it/support/services.rs). It ends IDLE seconds after the last process has
# released the `users` lock, and then stops both servers and removes the folder. If it is killed, the kernel signals
# both servers to stop.
set -euo pipefail

state=$1   # folder of the locks and of `ready`; it is kept
config=$2  # docker/mosquitto
IDLE=15    # seconds

fail() { echo "$1" | tee "$state/failed" >&2; exit 1; }

exec 8> "$state/supervisor.lock"
flock -n 8 || exit 0 # another one runs
rm -f "$state/ready" "$state/failed"
# Clean up after a supervisor that was killed.
if [ -f "$state/folder" ]; then rm -rf "$(cat "$state/folder")"; fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/smarthome-tests.XXXXXX")
echo "$folder" > "$state/folder"

# PostgreSQL refuses to run as root: use another account.
account=()
if [ "$(id -u)" = 0 ]; then
    name=postgres
    getent passwd postgres > /dev/null || name=nobody
    account=("--reuid=$name" "--regid=$(id -g "$name")" --clear-groups)
    chown "$name" "$folder"
fi
# as SIGNAL COMMAND: runs COMMAND as that account, without our locks; it gets SIGNAL when this script ends.
as() {
    local signal=$1
    shift
    exec setpriv "${account[@]}" --pdeathsig "$signal" -- "$@" 8>&- < /dev/null
}

pg_bin=""
for candidate in $(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -rV) \
    "$(dirname "$(readlink -f "$(command -v initdb || echo /nowhere/initdb)")")"; do
    if [ -x "$candidate/initdb" ]; then pg_bin=$candidate && break; fi
done
[ -n "$pg_bin" ] || fail "PostgreSQL is not installed: apt-get install postgresql"
mosquitto=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto) ||
    fail "Mosquitto is not installed: apt-get install mosquitto mosquitto-clients"

pids=()
finish() {
    rm -f "$state/ready"
    # Both shut down on SIGINT.
    jobs -p | xargs -r kill -INT 2> /dev/null || true
    wait || true
    cd /
    rm -rf "$folder" "$state/folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

cd "$folder"
(as KILL "$pg_bin/initdb" -D "$folder/data" -U smarthome -A trust -E UTF8 --locale=C.UTF-8 --lc-messages=C -N) > initdb.log 2>&1 ||
    fail "initdb: $(tail -n 3 initdb.log)"
# Accounts of tests in this role have to give their password.
(as KILL sed -i '1i host all +with_password all scram-sha-256' "$folder/data/pg_hba.conf")
# The data is not needed after the run: no fsync. Only the owner may enter the socket's folder.
(as KILL mkdir -m 0700 "$folder/socket")
# TLS on the loopback, with certificates of the shipped script.
bash "$config/tls.sh" "$folder/tls" ca && bash "$config/tls.sh" "$folder/tls" broker localhost,127.0.0.1 ||
    fail "certificates: is openssl installed?"
cp tls/server.crt tls/server.key data/
chmod 0600 data/server.key
if [ "$(id -u)" = 0 ]; then chown "$name" data/server.crt data/server.key; fi
chmod a+rx tls && chmod a+r tls/ca.crt
pg_port=""
for _ in $(seq 50); do
    try=$((20000 + RANDOM % 12000)) # below the ports that the kernel gives to clients
    (as INT "$pg_bin/postgres" -D "$folder/data" -c "unix_socket_directories=$folder/socket" -c port=$try -c ssl=on \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=300) > postgres.log 2>&1 &
    pid=$!
    while kill -0 $pid 2> /dev/null; do
        if [ "$(sed -n 8p data/postmaster.pid 2> /dev/null | tr -d ' ')" = ready ]; then pg_port=$try && break 2; fi
        read -rt 0.02 <> <(:) || true
    done
done
[ -n "$pg_port" ] || fail "postgres: $(tail -n 3 postgres.log)"
pids+=($pid)

# The production limits, and a listener for anonymous clients on this machine.
mkdir conf.d
cp "$config"/conf.d/*.conf conf.d/
chmod -R a+rX conf.d
port=""
for _ in $(seq 50); do
    try=$((20000 + RANDOM % 12000)) # below the ports that the kernel gives to clients
    printf '%s\n' "include_dir $folder/conf.d" "persistence_location $folder/" "log_dest stderr" \
        "allow_anonymous true" "listener $try 127.0.0.1" > mosquitto.conf
    chmod a+r mosquitto.conf
    (as TERM "$mosquitto" -c "$folder/mosquitto.conf") > mosquitto.log 2>&1 &
    pid=$!
    while kill -0 $pid 2> /dev/null; do
        if grep -q running mosquitto.log; then port=$try && break 2; fi
        read -rt 0.02 <> <(:) || true
    done
done
[ -n "$port" ] || fail "mosquitto: $(tail -n 3 mosquitto.log)"
pids+=($pid)

printf '%s\n' "$folder/socket" "$pg_port" "$folder/tls/ca.crt" "$port" > "$state/ready.new"
mv "$state/ready.new" "$state/ready"

idle=0
while [ $idle -lt $IDLE ]; do
    read -rt 1 <> <(:) || true
    kill -0 "${pids[0]}" && kill -0 "${pids[1]}"
    if flock -n "$state/users.lock" true; then idle=$((idle + 1)); else idle=0; fi
    if [ $idle -ge $IDLE ]; then
        # No process may start between this check and the end.
        exec 7> "$state/start.lock"
        flock 7
        if flock -n "$state/users.lock" true; then rm -f "$state/ready"; else idle=0; fi
        exec 7>&-
    fi
done
