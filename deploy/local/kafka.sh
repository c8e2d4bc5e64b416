# The private Kafka: jars from Maven Central, one node, broker and controller in one process. Sourced, never run.
# shellcheck shell=bash

kafka_fetch() {
  [ -f "$KAFKA_LIBS/.complete" ] && return
  local unfinished=$KAFKA_LIBS.$$ log=$LOGS/maven.log
  step "fetching Kafka $KAFKA_VERSION from Maven Central (54 MB, once)"
  mkdir -p "$LOGS" "$unfinished"
  mvn -B -f "$LOCAL_DIR/pom.xml" dependency:copy-dependencies -DoutputDirectory="$unfinished" -DincludeScope=runtime \
    >"$log" 2>&1 9>&- || {
    grep -m 5 ERROR "$log" >&2 || tail -n 10 "$log" >&2
    rm -rf "$unfinished"
    die "Maven could not fetch Kafka; its log is $log"
  }
  touch "$unfinished/.complete"
  rm -rf "$KAFKA_LIBS"
  mv "$unfinished" "$KAFKA_LIBS"
  good "$(find "$KAFKA_LIBS" -name '*.jar' | wc -l) jars in $KAFKA_LIBS"
}

kafka_java() {
  # java expands the asterisk of the class path itself, the shell must not.
  local heap=("$1" "$2")
  shift 2
  java "${heap[@]}" -cp "$KAFKA_LIBS/*" -Dlog4j2.configurationFile="$LOCAL_DIR/log4j2.properties" "$@"
}

kafka_configure() {
  local data=$STATE/kafka
  mkdir -p "$data/tmp" "$LOGS"
  cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
controller.listener.names=CONTROLLER
log.dirs=$data/data
# A topic the hub did not create is a fault of the hub, which automatic creation would hide.
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
EOF
  [ -f "$data/data/meta.properties" ] && return
  # An id that began with '-' would be read as an option.
  local id
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=')
  kafka_java -Xms32m -Xmx256m kafka.tools.StorageTool format -t "$id" -c "$data/server.properties" >"$LOGS/kafka.log" 2>&1 || {
    tail -n 10 "$LOGS/kafka.log" >&2
    die "Kafka's storage in $data/data cannot be formatted; its log is $LOGS/kafka.log"
  }
}

kafka_up() {
  local pid
  kafka_fetch
  if pid=$(pid_of kafka); then
    require_port kafka "$KAFKA_PORT"
    wait_for 20 kafka "$LOGS/kafka.log" kafka_answers
    good "Kafka is up on 127.0.0.1:$KAFKA_PORT (pid $pid, reused)"
    return
  fi
  require_free "$KAFKA_PORT" HUB_KAFKA_PORT
  require_free "$KAFKA_CONTROLLER_PORT" HUB_KAFKA_CONTROLLER_PORT
  kafka_configure
  : >"$LOGS/kafka.log"
  # Each partition keeps three files open.
  ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
  (
    cd "$STATE/kafka"
    # A pause of the broker is a pause of every reader, however little it collects: a heap with room has fewer.
    exec setsid java -Xms1g -Xmx1g -XX:+UseG1GC -cp "$KAFKA_LIBS/*" -Dlog4j2.configurationFile="$LOCAL_DIR/log4j2.properties" \
      -Djava.io.tmpdir="$STATE/kafka/tmp" -XX:-UsePerfData kafka.Kafka server.properties
  ) >>"$LOGS/kafka.log" 2>&1 </dev/null 9>&- &
  record kafka $! "$KAFKA_PORT"
  wait_for 60 kafka "$LOGS/kafka.log" kafka_answers
  good "Kafka $KAFKA_VERSION is up on 127.0.0.1:$KAFKA_PORT (pid $(pid_of kafka))"
}
