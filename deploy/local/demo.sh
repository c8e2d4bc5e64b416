#!/usr/bin/env bash
# The demo: a one-stop shop with 200,000 dossiers through the hub into Kafka, live changes, and a reconciliation.
#   demo.sh         all of it; ends with exit code 0 only when nothing is lost, nothing doubled and every reject was foreseen
#   demo.sh stay    the same system and hub, without an end: `make down` ends it
. "$(dirname "$0")/settings.sh"
. "$LOCAL_DIR/processes.sh"
. "$LOCAL_DIR/kafka.sh"

DOSSIERS=${DEMO_DOSSIERS:-200000}
SEED=${DEMO_SEED:-7}
SYSTEM=mot-cua
PREFIX=h09
OPERATORS=127.0.0.1:9464
REGISTRY=127.0.0.1:18081
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/provincial-hub/target}
export PROVINCE_DSN="host=127.0.0.1 port=$PG_PORT user=postgres dbname=mot_cua"
HUB=$CARGO_TARGET_DIR/debug/hub
PROVINCE=$CARGO_TARGET_DIR/debug/province

main() {
  "$LOCAL_DIR/stack.sh" up
  once demo
  build
  CONFIG=$(configuration)
  fresh_start
  start_hub
  wait_for_snapshot
  if [ "${1:-}" = stay ]; then
    explain_stay
    return
  fi
  trap stop_hub EXIT
  show_live_changes
  change_more
  reconcile
  good "the demo is done in $((SECONDS / 60)) min $((SECONDS % 60)) s; the stack stays up (make down stops it)"
}

build() {
  step "building the hub (the first time takes some minutes: DataFusion and librdkafka are compiled)"
  # The whole workspace, so that features unify as they do for `make test` and dependencies are compiled once for both.
  "$LOCAL_DIR/claim.sh"
  (cd "$ROOT" && cargo build --workspace --bins) 9>&- || die "the build failed; its messages are above"
}

# The configuration as it is in git, or a copy with the ports that were chosen for this machine.
configuration() {
  local original=$ROOT/deploy/province copy=$STATE/province
  if [ "$KAFKA_PORT" = 19092 ] && [ "$PG_PORT" = 15432 ]; then
    printf '%s\n' "$original"
    return
  fi
  rm -rf "$copy"
  cp -r "$original" "$copy"
  sed -i "s/127\.0\.0\.1:19092/127.0.0.1:$KAFKA_PORT/; s/port: 15432/port: $PG_PORT/" "$copy/hub.yaml" "$copy"/systems/*.yaml
  printf '%s\n' "$copy"
}

# A database and topics as if nothing had ever run here.
fresh_start() {
  if pid_of hub >/dev/null; then
    say "stopping the hub of an earlier run"
    stop hub TERM 30
  fi
  step "a one-stop shop with $DOSSIERS dossiers, as messy as life"
  mkdir -p "$STATE/secrets"
  [ -s "$STATE/secrets/mot_cua" ] || (umask 077 && head -c 18 /dev/urandom | base64 >"$STATE/secrets/mot_cua")
  "$PROVINCE" create --role hub --password-file "$STATE/secrets/mot_cua"
  "$PROVINCE" fill --dossiers "$DOSSIERS" --seed "$SEED"
  delete_topics
}

delete_topics() {
  local topics=(org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$KAFKA_PORT") log=$LOGS/topics.log
  kafka_java -Xms32m -Xmx128m "${topics[@]}" --delete --if-exists --topic "($PREFIX|hub[.]$PREFIX)[.].*" >"$log" 2>&1 ||
    die "the topics of an earlier run cannot be deleted; see $log"
}

start_hub() {
  step "hub check"
  "$HUB" -c "$CONFIG" check || die "the configuration in $CONFIG or its source is not right; what is wrong is above"
  require_free "${OPERATORS#*:}" "http.listen in hub.yaml; HUB_HTTP"
  step "hub run"
  setsid "$HUB" -c "$CONFIG" run >"$LOGS/hub.log" 2>&1 </dev/null 9>&- &
  record hub $! "${OPERATORS#*:}"
  wait_for 60 hub "$LOGS/hub.log" curl -sf "http://$OPERATORS/healthz"
  good "running (pid $(pid_of hub)); its log is $LOGS/hub.log"
}

stop_hub() { stop hub TERM 30; }

# The sum of a metric over its labels.
metric() { curl -sf "http://$OPERATORS/metrics" | awk -v name="$1" 'index($1, name "{") == 1 { sum += $NF } END { printf "%d", sum }'; }

wait_for_snapshot() {
  local expected handled=0 last=0 moved=$SECONDS started=$SECONDS
  expected=$("$PROVINCE" expect --captured)
  step "snapshot: $expected rows through mapping and Avro into Kafka, exactly once"
  while [ "$handled" -lt "$expected" ]; do
    pid_of hub >/dev/null || hub_failed "the hub has ended"
    handled=$(($(metric hub_publish_rows_total) + $(metric hub_reject_rows_total))) || hub_failed "the hub does not answer on $OPERATORS"
    [ "$handled" = "$last" ] || moved=$SECONDS
    last=$handled
    [ $((SECONDS - moved)) -lt 60 ] || hub_failed "no row has moved for a minute"
    progress "$handled" "$expected"
    sleep 0.2
  done
  [ ! -t 1 ] || printf '\n'
  good "$handled rows in $((SECONDS - started)) s"
}

# A bar on a terminal; a line every five seconds in a log.
progress() {
  local width=40 filled=$(($1 * 40 / $2))
  [ "$filled" -le "$width" ] || filled=$width
  if [ -t 1 ]; then
    printf '\r  [%s%s] %3d %%  %d of %d rows ' "$(printf '%*s' "$filled" '' | tr ' ' '#')" \
      "$(printf '%*s' $((width - filled)) '')" $(($1 * 100 / $2)) "$1" "$2"
  elif [ $((SECONDS / 5)) != "${PROGRESS_SHOWN:-}" ]; then
    PROGRESS_SHOWN=$((SECONDS / 5))
    printf '  %3d %%  %d of %d rows\n' $(($1 * 100 / $2)) "$1" "$2"
  fi
}

hub_failed() {
  complain "$1; the end of its log ($LOGS/hub.log):"
  tail -n 15 "$LOGS/hub.log" | sed 's/^/  /' >&2
  exit 1
}

show_live_changes() {
  step "live: dossiers as they change, decoded from $PREFIX.$SYSTEM.dossier"
  local tail_pid
  "$HUB" -c "$CONFIG" tail "$PREFIX.$SYSTEM.dossier" --follow 9>&- > >(cut -c "1-$(tput cols 2>/dev/null || echo 160)") &
  tail_pid=$!
  sleep 1
  "$PROVINCE" change --rate 12 --seconds 8
  "$PROVINCE" settle
  kill "$tail_pid" 2>/dev/null || true
  wait "$tail_pid" 2>/dev/null || true
}

change_more() {
  step "a working day in a minute: inserts, updates, deletes, changed keys, mended rows"
  "$PROVINCE" change --count 20000
  "$PROVINCE" settle
}

# Two witnesses: a subscriber that shares no code with the hub counts and compares keys, `hub verify` compares contents.
reconcile() {
  step "reconciliation: the source against what a read_committed subscriber finds in Kafka"
  "$PROVINCE" reconcile --brokers "127.0.0.1:$KAFKA_PORT" --registry "$REGISTRY" --topics "$PREFIX.$SYSTEM" ||
    die "source and topics do not agree: see the columns that are not 0 above, and the hub's log $LOGS/hub.log"
  good "lost 0, duplicates 0, out of order 0; every reject is a row that was known in advance, with the reason known in advance"
  "$HUB" -c "$CONFIG" verify "$SYSTEM" || die "hub verify finds that contents differ"
}

explain_stay() {
  trap - EXIT
  good "the hub runs on. Look around in another terminal:"
  say "  $HUB -c $CONFIG status"
  say "  $HUB -c $CONFIG tail $PREFIX.$SYSTEM.dossier --follow"
  say "  $HUB -c $CONFIG rejects list $SYSTEM"
  say "  $PROVINCE change --rate 100 --seconds 60"
  say "  curl http://$OPERATORS/metrics"
  say "  make down                      # ends all of it"
}

main "$@"
