# The private MariaDB of the tests, which stands for MySQL too. Sourced, never run. Like PostgreSQL it will not be root,
# and borrows that one's user and place.
# shellcheck shell=bash

# It greets whoever connects: a packet of its own, four bytes of which are its header.
mariadb_answers() { answers "$MARIADB_PORT" '' 4; }

# Row-based binlog with full images and global transaction ids, as a source needs them. `root` comes without a
# password over the loopback alone; every other user needs its own.
mariadb_configure() {
  cat <<EOF
[mariadbd]
datadir = $1/data
tmpdir = $1/tmp
socket = $1/socket
pid-file = $1/pid
log-error = $1/server.log
bind-address = 127.0.0.1
port = $MARIADB_PORT
server_id = 1
log_bin = $1/data/binlog
binlog_format = ROW
binlog_row_image = FULL
binlog_row_metadata = FULL
gtid_strict_mode = ON
expire_logs_days = 1
sync_binlog = 0
innodb_flush_log_at_trx_commit = 2
innodb_buffer_pool_size = 256M
max_allowed_packet = 256M
max_connections = 200
character_set_server = utf8mb4
default_time_zone = +00:00
EOF
}

mariadb_create() {
  rm -rf "$1/data"
  # In /tmp a server that starts removes what looks like a temporary table of its own, whoever's it is.
  as_postgres mariadb-install-db --no-defaults --datadir="$1/data" --tmpdir="$1/tmp" --auth-root-authentication-method=normal --skip-test-db \
    >"$LOGS/mariadb-install.log" 2>&1 9>&- || {
    tail -n 10 "$LOGS/mariadb-install.log" >&2
    die "mariadb-install-db failed; its log is $LOGS/mariadb-install.log"
  }
}

mariadb_up() {
  local home log pid
  command -v mariadbd >/dev/null || die "MariaDB is not installed: deploy/local/packages.sh installs it"
  home=$(pg_home)/mariadb log=$home/server.log
  if pid=$(pid_of mariadb); then
    require_port mariadb "$MARIADB_PORT"
    wait_for 20 mariadb "$log" mariadb_answers
    good "MariaDB is up on 127.0.0.1:$MARIADB_PORT (pid $pid, reused)"
    return
  fi
  require_free "$MARIADB_PORT" HUB_MARIADB_PORT
  mkdir -p "$LOGS" "$home/tmp"
  if is_root; then
    chmod a+x "$STATE" "$(dirname "$home")"
    chown -R postgres: "$home"
  fi
  ln -sfn "$log" "$LOGS/mariadb.log"
  [ -d "$home/data/mysql" ] || mariadb_create "$home"
  mariadb_configure "$home" >"$home/my.cnf"
  rm -f "$home/pid"
  as_postgres setsid -f mariadbd --defaults-file="$home/my.cnf" >"$LOGS/mariadb-start.log" 2>&1 </dev/null 9>&-
  for _ in $(seq 100); do
    [ ! -s "$home/pid" ] || break
    sleep 0.1
  done
  [ -s "$home/pid" ] || {
    tail -n 15 "$log" 2>/dev/null | sed 's/^/  /' >&2
    die "MariaDB does not start; its log is $log"
  }
  record mariadb "$(cat "$home/pid")" "$MARIADB_PORT"
  wait_for 60 mariadb "$log" mariadb_answers
  good "MariaDB $(mariadbd --version | sed 's/.*Ver \([0-9.]*\).*/\1/') is up on 127.0.0.1:$MARIADB_PORT (pid $(pid_of mariadb))"
}
