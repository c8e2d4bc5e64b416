//! Debezium on Kafka Connect, on the same tables in the same run, tuned as `local-stack.md` of the steering folder says.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use serde_json::json;
use tokio::process::Command;
use tokio_postgres::Client;

use crate::hub::Process;
use crate::report::{Goal, Report, median, percentile};
use crate::throughput::{self, Measure};
use crate::{Outcome, RunOptions, fresh_prefix, hub, latency, source, topic};

const CONNECT: &str = "127.0.0.1:28083";
const PATIENCE: Duration = Duration::from_secs(300);
const RIVAL_STREAMING: &str = "SELECT active AND EXISTS (SELECT FROM pg_stat_replication WHERE pid = active_pid) FROM pg_replication_slots WHERE slot_name = 'debezium_bench'";

/// Both sides, and the ratios between them.
pub(crate) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    let rival = Rival::prepare().await?;
    let rows = options.rows as f64;
    println!("snapshot of {} rows, the hub and Debezium", options.rows);
    let client = source::create().await?;
    source::insert(&client, 1, options.rows, 50_000).await?;
    client.batch_execute("VACUUM ANALYZE item").await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        ours.push(throughput::snapshot(binary, &client, options.rows).await?);
        theirs.push(rival.snapshot(&client, options.rows).await?);
        show(&ours, &theirs);
    }
    let snapshot = compare("snapshot", rows, &ours, &theirs, 8.0, report);
    println!("streaming one transaction of {} rows, the hub and Debezium", options.rows);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let client = source::create().await?;
        ours.push(throughput::stream(binary, &client, options.rows, options.rows).await?.0);
        let client = source::create().await?;
        theirs.push(rival.stream(&client, options.rows).await?);
        show(&ours, &theirs);
    }
    let stream = compare("stream", rows, &ours, &theirs, 2.0, report);
    report.add("peers.memory", snapshot.0.max(stream.0), "MB", Some(snapshot.1.max(stream.1)), Goal::RatioAtMost(1.0 / 15.0));
    rival_latency(&rival, binary, options, report).await
}

fn show(ours: &[Measure], theirs: &[Measure]) {
    if let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) {
        println!(
            "    hub {:.2} s, cpu {:.2} s, {:.0} MB; Debezium {:.2} s, cpu {:.2} s, {:.0} MB",
            ours.seconds, ours.cpu, ours.peak_mb, theirs.seconds, theirs.cpu, theirs.peak_mb
        );
    }
}

/// Rates and CPU of both; answers the peak memory of both.
fn compare(what: &str, rows: f64, ours: &[Measure], theirs: &[Measure], goal: f64, report: &mut Report) -> (f64, f64) {
    let seconds = |side: &[Measure]| median(side.iter().map(|measure| measure.seconds).collect());
    let cpu = |side: &[Measure]| median(side.iter().map(|measure| measure.cpu).collect()) * 1e6 / rows;
    let peak = |side: &[Measure]| side.iter().fold(0.0_f64, |peak, measure| peak.max(measure.peak_mb));
    report.add(&format!("peers.{what}.rate"), rows / seconds(ours), "rows/s", Some(rows / seconds(theirs)), Goal::Ratio(goal));
    report.add(&format!("peers.{what}.cpu"), cpu(ours), "s/M rows", Some(cpu(theirs)), Goal::RatioAtMost(1.0 / 8.0));
    (peak(ours), peak(theirs))
}

async fn rival_latency(rival: &Rival, binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    for rate in [1_000, 5_000] {
        println!("latency at {rate} rows/s, the hub and Debezium with poll.interval.ms=5");
        let client = source::create().await?;
        let prefix = fresh_prefix("latency");
        let process = hub::start(binary, &prefix)?;
        hub::wait_following(PATIENCE).await?;
        let consumer = topic::consumer(&format!("{prefix}.bench.item"), Offset::End)?;
        let ours = latency::measure(&client, consumer, rate, options.seconds, &mut 1, topic::key_number).await?;
        process.stop().await?;
        throughput::release(&client).await?;
        let client = source::create().await?;
        let worker = rival.start("latency", "no_data", 5).await?;
        source::wait_for(&client, RIVAL_STREAMING, PATIENCE).await?;
        // Debezium makes its topic with the first record.
        source::insert(&client, -100, 1, 1).await?;
        let topic_name = format!("{}.public.item", worker.prefix);
        let consumer = wait_for_topic(&topic_name).await?;
        let theirs = latency::measure(&client, consumer, rate, options.seconds, &mut 1, json_key).await?;
        worker.process.stop().await?;
        throughput::release(&client).await?;
        report.add(&format!("peers.latency.{rate}.p50"), percentile(&ours, 0.5), "ms", Some(percentile(&theirs, 0.5)), Goal::Told);
        report.add(
            &format!("peers.latency.{rate}.p99"),
            percentile(&ours, 0.99),
            "ms",
            Some(percentile(&theirs, 0.99)),
            Goal::RatioAtMost(1.0),
        );
    }
    Ok(())
}

async fn wait_for_topic(name: &str) -> Outcome<rdkafka::consumer::BaseConsumer> {
    let started = Instant::now();
    loop {
        match topic::consumer(name, Offset::End) {
            Ok(consumer) => return Ok(consumer),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn json_key(key: &[u8]) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(key).ok()?.get("id")?.as_i64()
}

/// Kafka Connect with Debezium's plug-in, fetched by Maven.
struct Rival {
    libraries: PathBuf,
    plugins: PathBuf,
}

struct Worker {
    process: Process,
    prefix: String,
}

impl Rival {
    async fn prepare() -> Outcome<Self> {
        let cache = PathBuf::from(std::env::var("HOME")?).join(".cache/provincial-hub");
        let plugins = cache.join("debezium-3.6.1");
        if !plugins.join("debezium/.complete").exists() {
            println!("fetching Debezium 3.6.1 by Maven");
            std::fs::create_dir_all(&plugins)?;
            std::fs::copy(hub::folder().join("debezium-pom.xml"), plugins.join("pom.xml"))?;
            let status = Command::new("mvn")
                .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=debezium", "-DincludeScope=runtime"])
                .current_dir(&plugins)
                .status()
                .await?;
            if !status.success() {
                return Err("Maven could not fetch Debezium".into());
            }
            std::fs::write(plugins.join("debezium/.complete"), "")?;
        }
        let libraries = find_libraries(&cache).ok_or("Kafka's jars are missing; run `make up` first")?;
        Ok(Self { libraries, plugins })
    }

    /// Starts a worker and one connector; `snapshot_mode` and the poll interval are Debezium's.
    async fn start(&self, what: &str, snapshot_mode: &str, poll_ms: u32) -> Outcome<Worker> {
        let prefix = fresh_prefix(what);
        let folder = hub::root().join(".local/bench-peers");
        std::fs::create_dir_all(&folder)?;
        let properties = folder.join("worker.properties");
        std::fs::write(&properties, worker_properties(&prefix, &self.plugins))?;
        let mut command = Command::new("java");
        command
            .args(["-Xms256m", "-Xmx2g", "-cp", &format!("{}/*", self.libraries.display())])
            .arg("org.apache.kafka.connect.cli.ConnectDistributed")
            .arg(&properties);
        let process = Process::start(command, &hub::root().join(".local/logs/bench-debezium.log"))?;
        let started = Instant::now();
        while hub::get(CONNECT, "/connectors").await.map_or(true, |answer| !answer.contains(" 200 ")) {
            if started.elapsed() > PATIENCE {
                return Err("Kafka Connect does not start; see .local/logs/bench-debezium.log".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let answer =
            hub::request(CONNECT, "PUT", "/connectors/bench/config", &connector(&prefix, snapshot_mode, poll_ms).to_string()).await?;
        if !answer.contains(" 201 ") {
            return Err(format!("Kafka Connect refuses the connector: {answer}").into());
        }
        Ok(Worker { process, prefix })
    }

    async fn snapshot(&self, client: &Client, rows: i64) -> Outcome<Measure> {
        let worker = self.start("rival-snapshot", "initial", 500).await?;
        let started =
            source::wait_for(client, "SELECT true FROM pg_replication_slots WHERE slot_name = 'debezium_bench'", PATIENCE).await?;
        worker.finish(client, rows, started).await
    }

    async fn stream(&self, client: &Client, rows: i64) -> Outcome<Measure> {
        client.execute("SELECT pg_create_logical_replication_slot('debezium_bench', 'pgoutput')", &[]).await?;
        client.batch_execute("CREATE PUBLICATION debezium_bench FOR TABLE item").await?;
        source::insert(client, 1, rows, rows).await?;
        let worker = self.start("rival-stream", "no_data", 500).await?;
        let started = source::wait_for(client, RIVAL_STREAMING, PATIENCE).await?;
        worker.finish(client, rows, started).await
    }
}

impl Worker {
    /// Waits until the topic's partition holds as many records as there are rows (control records count: in the rival's favour).
    async fn finish(self, client: &Client, rows: i64, started: Instant) -> Outcome<Measure> {
        let cpu_before = self.process.cpu_seconds()?;
        let name = format!("{}.public.item", self.prefix);
        let consumer = wait_for_topic(&name).await?;
        loop {
            let count = rdkafka::consumer::Consumer::fetch_watermarks(&consumer, &name, 0, Duration::from_secs(10))?.1;
            if count >= rows {
                break;
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("Debezium published only {count} of {rows}; see .local/logs/bench-debezium.log").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let measure = Measure {
            seconds: started.elapsed().as_secs_f64(),
            cpu: self.process.cpu_seconds()? - cpu_before,
            peak_mb: self.process.peak_mb()?,
        };
        self.process.stop().await?;
        client.batch_execute("DROP PUBLICATION IF EXISTS debezium_bench").await?;
        throughput::release(client).await?;
        Ok(measure)
    }
}

fn find_libraries(cache: &Path) -> Option<PathBuf> {
    let holds = |folder: &PathBuf| {
        std::fs::read_dir(folder)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("connect-runtime")))
    };
    let listed = std::fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    listed.flat_map(|path| [path.join("libs"), path]).find(holds)
}

fn worker_properties(prefix: &str, plugins: &Path) -> String {
    format!(
        "bootstrap.servers={}\ngroup.id={prefix}\nlisteners=http://{CONNECT}\nplugin.path={}\nexactly.once.source.support=enabled\n\
         key.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter=org.apache.kafka.connect.json.JsonConverter\n\
         key.converter.schemas.enable=false\nvalue.converter.schemas.enable=false\n\
         offset.storage.topic={prefix}-offsets\nconfig.storage.topic={prefix}-configs\nstatus.storage.topic={prefix}-status\n\
         offset.storage.replication.factor=1\nconfig.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
         offset.storage.partitions=1\nstatus.storage.partitions=1\n",
        topic::BROKERS,
        plugins.display()
    )
}

fn connector(prefix: &str, snapshot_mode: &str, poll_ms: u32) -> serde_json::Value {
    json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1", "database.port": "15432", "database.user": "postgres", "database.password": "-",
        "database.dbname": "bench", "topic.prefix": prefix, "plugin.name": "pgoutput",
        "slot.name": "debezium_bench", "publication.name": "debezium_bench", "publication.autocreate.mode": "filtered",
        "table.include.list": "public.item", "snapshot.mode": snapshot_mode,
        "max.batch.size": "8192", "max.queue.size": "32768", "poll.interval.ms": poll_ms.to_string(),
        "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1",
        "producer.override.compression.type": "lz4"
    })
}
