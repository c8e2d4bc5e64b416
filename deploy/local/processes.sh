# Processes this checkout started: their pids, whether they still live, who holds a port. Sourced, never run.
# shellcheck shell=bash

# A pid is recorded with its start time, so that a number given to another program later is never taken for ours.
# A process that has ended but was not yet waited for (state Z) has none.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# record NAME PID PORT: PID is ours from now on.
record() {
  mkdir -p "$PIDS"
  printf '%s %s %s\n' "$2" "$(start_time "$2")" "$3" >"$PIDS/$1.pid"
}

# require_port NAME PORT: stops when NAME, which runs, was started for another port than is asked for now.
require_port() {
  local pid started port
  read -r pid started port <"$PIDS/$1.pid"
  [ "$port" = "$2" ] || die "$1 runs already on port $port (pid $pid), not on $2 as asked: make down first"
}

# pid_of NAME: prints the pid if what was recorded still runs, else fails.
pid_of() {
  local pid started
  read -r pid started _ 2>/dev/null <"$PIDS/$1.pid" || return 1
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] || return 1
  printf '%s\n' "$pid"
}

# stop NAME [SIGNAL] [SECONDS]: ends it and waits; asks with SIGNAL first, insists after SECONDS.
stop() {
  local name=$1 signal=${2:-TERM} seconds=${3:-20} pid waited=0
  pid=$(pid_of "$name") || {
    rm -f "$PIDS/$name.pid"
    return 0
  }
  kill -s "$signal" "$pid" 2>/dev/null || true
  while pid_of "$name" >/dev/null; do
    if [ "$waited" -ge $((seconds * 10)) ]; then
      say "$name (pid $pid) does not end after $seconds s: killed"
      kill -s KILL "$pid" 2>/dev/null || true
      seconds=$((seconds + 5))
    fi
    sleep 0.1
    waited=$((waited + 1))
  done
  rm -f "$PIDS/$name.pid"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# answers PORT REQUEST BYTES: whether the service there answers REQUEST (as printf writes it) with BYTES bytes within 3 s.
# The kernel accepts connections for a process that hangs, so an open port alone says little.
answers() {
  # shellcheck disable=SC2016,SC2059
  timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "$1" >&3 && [ "$(head -c "$2" <&3 | wc -c)" = "$2" ]' "$@" 2>/dev/null
}

# An ApiVersions request of version 0, and the length of its reply.
kafka_answers() { answers "$KAFKA_PORT" '\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff' 4; }

# pg_answers PORT: an SSLRequest, which is answered by one letter.
pg_answers() { answers "$1" '\0\0\0\x08\x04\xd2\x16\x2f' 1; }

# holder PORT: in words, the process that listens on PORT; found through /proc so that no package is needed.
holder() {
  local inode fd pid
  inode=$(awk -v port="$(printf '%04X' "$1")" '$4 == "0A" && $2 ~ ":" port "$" { print $10; exit }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  for fd in /proc/[0-9]*/fd/*; do
    [ -n "$inode" ] || break
    [ "$(readlink "$fd" 2>/dev/null)" = "socket:[$inode]" ] || continue
    pid=${fd#/proc/}
    pid=${pid%%/*}
    printf 'pid %s of user %s in %s: %s\n' "$pid" "$(stat -c %U "/proc/$pid")" "$(readlink "/proc/$pid/cwd")" \
      "$(tr '\0' ' ' <"/proc/$pid/cmdline" | sed 's/-cp [^ ]*//' | cut -c1-120)"
    return
  done
  printf 'a process of another user (as root, "ss -ltnp sport = :%s" names it)\n' "$1"
}

# require_free PORT VARIABLE: stops with the holder's name when PORT is taken.
require_free() {
  listens "$1" || return 0
  local who
  who=$(holder "$1")
  complain "port $1 is taken by $who"
  case $who in
    *" in "*"/.local/"*) say "  the stack of another checkout: make -C $(sed 's:/\.local/.*::; s:.* in ::' <<<"$who") down" >&2 ;;
    *) say "  end that process" >&2 ;;
  esac
  say "  or choose another port: $2=… make up" >&2
  exit 1
}

# wait_for SECONDS NAME LOG COMMAND…: until COMMAND succeeds; when NAME has died or time is up, shows the end of its LOG.
wait_for() {
  local limit=$((SECONDS + $1)) name=$2 log=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! pid_of "$name" >/dev/null || [ "$SECONDS" -ge "$limit" ]; then
      complain "$name does not answer; the end of its log ($log):"
      tail -n 15 "$log" 2>/dev/null | sed 's/^/  /' >&2 || true
      say "  make down, then make up, starts it anew" >&2
      exit 1
    fi
    sleep 0.1
  done
}
