#!/usr/bin/env bash
# The Debian packages that building and running needs: installs them as root, names the one line to run otherwise.
. "$(dirname "$0")/settings.sh"

PACKAGES=(cmake libssl-dev libsasl2-dev libcurl4-openssl-dev postgresql-15 maven default-jre-headless pkg-config curl
  mariadb-server-core mariadb-client unixodbc-dev odbc-postgresql odbc-mariadb libsqliteodbc)

missing() {
  local package
  for package in "${PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
  done
}

# Debian's package would start a server of its own on 5432; the stack needs its programs only.
without_main_cluster() {
  local file=/etc/postgresql-common/createcluster.d/provincial-hub.conf status=0
  mkdir -p "$(dirname "$file")"
  echo 'create_main_cluster = false' >"$file"
  "$@" || status=$?
  rm -f "$file"
  return "$status"
}

main() {
  local absent log=$LOGS/packages.log
  command -v cargo >/dev/null || die "cargo is absent: install Rust 1.95 or later first (https://rustup.rs)"
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian system: see to it that these are there yourself: ${PACKAGES[*]}"
    return
  fi
  absent=$(missing)
  [ -n "$absent" ] || return 0
  if ! is_root; then
    complain "Debian packages are absent; run this line, then the same command again:"
    say "  sudo apt-get install -y --no-install-recommends $absent"
    exit 1
  fi
  step "installing $absent"
  mkdir -p "$LOGS"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get update -q && without_main_cluster apt-get install -q -y --no-install-recommends $absent; } >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    die "apt-get could not install them; its log is $log"
  }
  good "packages installed"
}

main "$@"
