//! A node with one system, whose connector does what a test says.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use hub_engine::spec::{Desired, Naming, TopicSettings};
use hub_engine::status::SystemStatus;
use hub_engine::{Node, NodeInput};
use hub_kafka::{KafkaConfig, ReadPlan, Reader, Record, Until};
use hub_registry::{Registry, Schemas};
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, Origin, SnapshotMark, StreamName};
use hub_sdk::{
    Abilities, Connector, Delivery, ErrorKind, Evidence, Kind, OpenContext, Outlet, Probe, SourceError, SourceGauge, StreamShape,
};
use hub_telemetry::Metrics;
use serde_json::json;

/// What a connector does. Its second run delivers one row, where the checkpoint does not have it, and then rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    PanicsAtFirst,
    EndsAtFirst,
    PanicsWhenAcknowledged,
    NeverOpens,
    GivesEvidence,
}

pub struct Script {
    plan: Plan,
    pub runs: AtomicUsize,
    acknowledged: AtomicUsize,
}

fn scripts() -> &'static Mutex<HashMap<String, Arc<Script>>> {
    static SCRIPTS: OnceLock<Mutex<HashMap<String, Arc<Script>>>> = OnceLock::new();
    SCRIPTS.get_or_init(Mutex::default)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FakeConfig {
    script: String,
}

pub struct Fake {
    script: Arc<Script>,
}

impl Connector for Fake {
    const NAME: &'static str = "fake";
    type Config = FakeConfig;

    fn abilities(_: &FakeConfig) -> Abilities {
        Abilities::default()
    }

    async fn open(config: FakeConfig, _: OpenContext) -> Result<Self, SourceError> {
        let found = scripts().lock().unwrap().get(&config.script).cloned();
        let script = found.ok_or_else(|| SourceError::new(ErrorKind::Unreachable, "looking for the script"))?;
        if script.plan == Plan::NeverOpens {
            std::future::pending::<()>().await;
        }
        Ok(Self { script })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        Err(SourceError::new(ErrorKind::Defect, "probing"))
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        Ok(Vec::new())
    }

    async fn sample(&self, _: &StreamName, _: usize) -> Result<ChangeBatch, SourceError> {
        Err(SourceError::new(ErrorKind::Defect, "sampling"))
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        let first = self.script.runs.fetch_add(1, Ordering::SeqCst) == 0;
        match self.script.plan {
            Plan::PanicsAtFirst if first => panic!("a fixed text"),
            Plan::EndsAtFirst if first => return Ok(()),
            _ => {}
        }
        let shut = "delivering";
        let empty = Delivery::new(Vec::new(), Checkpoint::empty());
        outlet.deliver(empty).await.map_err(|_| SourceError::new(ErrorKind::Defect, shut))?;
        if from.get("at").is_none() {
            let mut checkpoint = Checkpoint::empty();
            checkpoint.set("at", json!(1));
            let mut delivery = Delivery::new(vec![row()], checkpoint);
            if self.script.plan == Plan::GivesEvidence {
                delivery.evidence.push(evidence());
            }
            outlet.deliver(delivery).await.map_err(|_| SourceError::new(ErrorKind::Defect, shut))?;
        }
        outlet.shut().await;
        Ok(())
    }

    fn acknowledge(&self, _: &Checkpoint) {
        let first = self.script.acknowledged.fetch_add(1, Ordering::SeqCst) == 0;
        if first && self.script.plan == Plan::PanicsWhenAcknowledged {
            let value = String::from("Nguyễn");
            panic!("a text with a value: {value}");
        }
    }

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        Ok(Vec::new())
    }

    async fn release(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// One exchange that led to the row.
pub fn evidence() -> Evidence {
    Evidence {
        at_micros: 1_700_000_000_000_000,
        stream: StreamName::new("t.other").unwrap(),
        account: "hub".to_owned(),
        what: "GET https://lgsp.example/danh-muc".to_owned(),
        outcome: "200".to_owned(),
        request_sha256: "ab".repeat(32),
        answer_sha256: "cd".repeat(32),
        answer_bytes: 7,
        kept: String::new(),
    }
}

/// One live row.
pub fn row() -> ChangeBatch {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["A"]))];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let mut origin = Origin::with_capacity(1);
    origin.push(i64::try_from(now).unwrap(), 7, 7, 0, 0);
    ChangeBatch {
        stream: StreamName::new("t.other").unwrap(),
        ops: vec![Op::Create],
        rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
        old: None,
        full_images: false,
        origin,
        key_changes: Vec::new(),
        faults: Vec::new(),
        snapshot: SnapshotMark::No,
    }
}

/// The system `demo`, whose connector does what a script says.
pub fn desired(script: &str) -> Desired {
    let schema = include_str!("../../../../tests/e2e/schemas/test/Other.avsc");
    let spec = json!({
        "system": "demo", "connector": "fake", "config": {"script": script},
        "streams": [{"source": "t.other", "entity": "test.Other", "key": ["id"], "map": {"id": "id", "name": "name"}}]
    });
    Desired {
        places: Default::default(),
        spec: serde_json::from_value(spec).unwrap(),
        schemas: BTreeMap::from([("test.Other".to_owned(), schema.to_owned())]),
        codes: BTreeMap::new(),
        directory: "/".to_owned(),
        paused: false,
        removed: false,
    }
}

/// A node that runs the system `demo`.
pub struct Rig {
    pub node: Arc<Node>,
    pub metrics: Metrics,
    pub script: Arc<Script>,
    pub kafka: KafkaConfig,
    pub schemas: Schemas,
    prefix: String,
}

impl Rig {
    pub async fn start(plan: Plan) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let prefix = format!("test-engine-{now}");
        let script = Arc::new(Script { plan, runs: AtomicUsize::new(0), acknowledged: AtomicUsize::new(0) });
        scripts().lock().unwrap().insert(prefix.clone(), Arc::clone(&script));
        let kafka = KafkaConfig::at(std::env::var("HUB_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:19092".to_owned()));
        let naming = Naming::new(prefix.clone());
        let registry = Registry::start(kafka.client(), &naming.schemas(), 1).await.expect("Kafka answers: run `make up`");
        let metrics = Metrics::new().unwrap();
        let schemas = Schemas::Embedded(registry);
        let input = NodeInput {
            kafka: kafka.clone(),
            naming,
            topic_defaults: TopicSettings::default(),
            schemas: schemas.clone(),
            kinds: vec![Kind::of::<Fake>()],
            metrics: metrics.clone(),
            queue_bytes: 1 << 20,
            lanes: 1,
            secrets: Arc::new(|config, _| Ok(config.clone())),
            name: "here:1".to_owned(),
        };
        let rig = Self { node: Arc::new(Node::start(input).await.unwrap()), metrics, script, kafka, schemas, prefix };
        rig.node.put(desired(&rig.prefix)).await.unwrap();
        rig
    }

    /// Waits until the status of the system is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&SystemStatus) -> bool) -> SystemStatus {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.node.status().into_iter().next().unwrap();
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < until, "gave up waiting for {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The system's topic.
    pub fn topic(&self) -> String {
        Naming::new(self.prefix.clone()).data("demo", "test.Other")
    }

    /// Records committed in the system's topic.
    pub async fn records(&self) -> usize {
        self.read(self.topic()).await.len()
    }

    /// Records committed in the topic of its exchanges.
    pub async fn exchanges(&self) -> Vec<Record> {
        self.read(Naming::new(self.prefix.clone()).audit("demo")).await
    }

    async fn read(&self, topic: String) -> Vec<Record> {
        let kafka = self.kafka.clone();
        let plan = ReadPlan { until: Until::Settled(Duration::from_secs(60)), ..ReadPlan::whole(topic) };
        tokio::task::spawn_blocking(move || Reader::open(&kafka, plan).unwrap().collect().unwrap()).await.unwrap()
    }
}
