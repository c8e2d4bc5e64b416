#!/usr/bin/env bash
# The private stack of this checkout: Kafka, PostgreSQL 15 and, for the tests, PostgreSQL 18 and MariaDB.
#   stack.sh up [pg18] [mariadb]   start what does not run yet; what runs is reused
#   stack.sh down        stop what this checkout started
#   stack.sh status      what runs, where, and where its log is
#   stack.sh clean       stop, then remove data and logs (the cache of downloads and builds stays)
. "$(dirname "$0")/settings.sh"
. "$LOCAL_DIR/processes.sh"
. "$LOCAL_DIR/kafka.sh"
. "$LOCAL_DIR/postgres.sh"
. "$LOCAL_DIR/mariadb.sh"

up() {
  once stack
  "$LOCAL_DIR/packages.sh"
  mkdir -p "$LOGS" "$PIDS"
  step "the private stack"
  kafka_up
  pg15_up
  local more
  for more in "$@"; do
    case $more in
      pg18) pg18_up ;;
      mariadb) mariadb_up ;;
      *) die "the stack has no '$more': pg18, mariadb" ;;
    esac
  done
}

down() {
  once stack
  local name
  # A hub that runs ends before what it needs.
  for name in hub mariadb postgres18 postgres kafka; do
    pid_of "$name" >/dev/null || continue
    case $name in
      postgres*) pg_down "$name" ;;
      *) stop "$name" TERM 30 ;;
    esac
    good "$name stopped"
  done
}

# healthy NAME PORT: whether what runs answers.
healthy() {
  case $1 in
    kafka) kafka_answers ;;
    postgres*) pg_answers "$2" ;;
    mariadb) mariadb_answers ;;
    *) true ;;
  esac
}

status() {
  local name port pid all=0
  printf '%-12s %-8s %-8s %-8s %s\n' service state port pid log
  for name in "kafka $KAFKA_PORT" "postgres $PG_PORT" "postgres18 $PG18_PORT" "mariadb $MARIADB_PORT" "hub -"; do
    read -r name port <<<"$name"
    if ! pid=$(pid_of "$name"); then
      printf '%-12s %-8s %-8s %-8s\n' "$name" down "$port" -
    elif healthy "$name" "$port"; then
      printf '%-12s %s%-8s%s %-8s %-8s %s\n' "$name" "$GREEN" up "$PLAIN" "$port" "$pid" "$LOGS/$name.log"
    else
      printf '%-12s %s%-8s%s %-8s %-8s %s\n' "$name" "$RED" broken "$PLAIN" "$port" "$pid" "$LOGS/$name.log"
      all=1
    fi
  done
  return "$all"
}

# Whether Kafka and PostgreSQL both run; says nothing.
is_up() { pid_of kafka >/dev/null && pid_of postgres >/dev/null; }

clean() {
  down
  local home
  home=$(pg_home 2>/dev/null || printf '%s' "$STATE")
  [ "$home" = "$STATE" ] || rm -rf "$home"
  rm -rf "$STATE"
  good "removed $STATE; downloads and builds stay in $CACHE"
}

case ${1:-} in
  up | down | status | clean) "$@" ;;
  is-up) is_up ;;
  *)
    sed -n '3,6s/^#  *//p' "$0"
    exit 2
    ;;
esac
