//! The connector: what the hub calls, put together from door, group and listener.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName};
use hub_sdk::records::{TEXT, TextRows};
use hub_sdk::{
    Abilities, Column, ConfigFault, Connector, Delivery, ErrorKind, Looks, OpenContext, Outlet, Probe, SourceError, SourceGauge,
    StreamShape, now_micros,
};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::body::Reader;
use crate::config::{Endpoint, WebhookConfig};
use crate::door::{Door, Gate, Paths, Taken};
use crate::figures::Figures;
use crate::group::{Grouper, SEQUENCE, Stream, columns_partition, minute};
use crate::keys::{Keys, is_of};
use crate::rows::Columns;
use crate::server::{Connections, Serving, accept, bind};
use crate::tls::Encryption;
use crate::waiting::Waiting;

/// A listener to which a system pushes.
pub struct Webhook {
    pub(crate) config: Arc<WebhookConfig>,
    pub(crate) context: OpenContext,
    gates: HashMap<StreamName, Arc<Gate>>,
    waiting: Arc<Waiting>,
    figures: Arc<Figures>,
    connections: Arc<Connections>,
    /// Room for bodies and for connections, over all runs.
    room: Arc<Semaphore>,
    most: Arc<Semaphore>,
    /// Whether a run listens now.
    pub(crate) listening: AtomicBool,
}

impl Connector for Webhook {
    const NAME: &'static str = "webhook";
    type Config = WebhookConfig;

    fn abilities(config: &WebhookConfig) -> Abilities {
        Abilities {
            snapshot: false,
            follow: true,
            deletes: config.streams.values().any(|stream| stream.op.as_ref().is_some_and(|op| !op.delete.is_empty())),
            before_images: false,
            exactly_once: config.streams.values().all(|stream| stream.idempotency.is_some()),
            every_change: true,
            listens: true,
            add_streams: true,
            truncates: false,
        }
    }

    fn check(config: &WebhookConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: WebhookConfig, context: OpenContext) -> Result<Self, SourceError> {
        let opening = || SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system));
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(opening().because(format!("{} {}", fault.pointer, fault.message)));
        }
        let mut gates = HashMap::new();
        for (name, endpoint) in &config.streams {
            let stream = StreamName::new(name).map_err(|error| opening().because(error))?;
            let attachments = endpoint.attachments.as_ref().map(|folder| context.directory.join(folder));
            let gate = Gate::new(stream.clone(), endpoint, attachments).map_err(|why| opening().because(why).of(stream.clone()))?;
            gates.insert(stream, Arc::new(gate));
        }
        Ok(Self {
            gates,
            waiting: Arc::default(),
            figures: Arc::default(),
            connections: Arc::default(),
            room: Arc::new(Semaphore::new(config.room_kib())),
            most: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            listening: AtomicBool::new(false),
            config: Arc::new(config),
            context,
        })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(crate::probe::probe(self))
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        let streams = self.config.streams.iter();
        streams.map(|(name, endpoint)| Ok(self.shape(self.name(name)?, endpoint))).collect()
    }

    async fn sample(&self, stream: &StreamName, _rows: usize) -> Result<ChangeBatch, SourceError> {
        let endpoint = self.endpoint(stream)?;
        // What was pushed is not kept here, so there are columns and no rows.
        let rows = TextRows::new(self.columns(stream, endpoint).names()).finish();
        let rows = rows.map_err(|error| SourceError::new(ErrorKind::Defect, "making a sample").because(error).of(stream.clone()))?;
        Ok(Looks::restore(&Checkpoint::empty(), stream).begin().batch(stream, Vec::new(), rows, false))
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        let sequence = from.get(SEQUENCE).and_then(Value::as_u64).unwrap_or(0);
        self.waiting.begin(sequence);
        let (paths, streams) = self.streams(&from)?;
        let encryption = self.encryption()?;
        let Some(address) = self.config.address() else {
            return Err(SourceError::new(ErrorKind::BadConfig, format!("listening on {}", self.config.listen)));
        };
        let listener = tokio::select! {
            listener = bind(address) => listener?,
            () = outlet.shut() => return Ok(()),
        };
        // An empty delivery says that changes are followed now.
        if outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await.is_err() {
            return Ok(());
        }
        let places = self.config.streams.values().map(|stream| stream.max_waiting).fold(0, usize::saturating_add);
        let (queue, requests) = mpsc::channel(places.clamp(1, Semaphore::MAX_PERMITS));
        let door = Door::new(&self.config, paths, queue, Arc::clone(&self.room), Arc::clone(&self.figures));
        // Dropped with this future, however it ends: connections then take no further request.
        let (_run, running) = watch::channel(());
        let serving = Serving {
            door: Arc::new(door),
            encryption,
            connections: Arc::clone(&self.connections),
            most: Arc::clone(&self.most),
            head_within: WebhookConfig::seconds(self.config.head_within_s),
            running,
        };
        let grouper = Grouper {
            streams,
            sequence,
            cleaning: self.cleaning(&from),
            limits: self.context.limits,
            waiting: Arc::clone(&self.waiting),
            figures: Arc::clone(&self.figures),
            outlet: outlet.clone(),
        };
        let _listens = Listens::begin(&self.listening);
        tracing::info!(system = %self.context.system, %address, tls = self.config.tls.is_some(), "listening for pushes");
        tokio::select! {
            ended = grouper.run(requests) => ended,
            never = accept(listener, serving) => match never {},
            () = outlet.shut() => Ok(()),
        }
    }

    fn acknowledge(&self, durable: &Checkpoint) {
        if let Some(sequence) = durable.get(SEQUENCE).and_then(Value::as_u64) {
            self.waiting.settle(sequence);
        }
    }

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        Ok(self.figures.gauges())
    }

    /// The source knows nothing of the hub but its address; attachments are data, and stay.
    async fn release(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Webhook {
    fn name(&self, name: &str) -> Result<StreamName, SourceError> {
        let naming = || SourceError::new(ErrorKind::BadConfig, format!("naming the streams of {}", self.context.system));
        StreamName::new(name).map_err(|error| naming().because(error))
    }

    /// The endpoint of a stream.
    pub(crate) fn endpoint(&self, stream: &StreamName) -> Result<&Endpoint, SourceError> {
        self.config.streams.get(stream.as_str()).ok_or_else(|| {
            let there: Vec<&str> = self.config.streams.keys().map(String::as_str).collect();
            SourceError::new(ErrorKind::StreamBroken, "looking for a stream in config.streams")
                .because(format!("it is not there; there are {}", there.join(", ")))
                .advise("add it to `config.streams`, or mend `source` of the mapping")
                .of(stream.clone())
        })
    }

    /// The TLS of the listener.
    pub(crate) fn encryption(&self) -> Result<Option<Arc<Encryption>>, SourceError> {
        let tls = self.config.tls.as_ref();
        tls.map(|tls| Encryption::new(tls, &self.context.directory).map(Arc::new)).transpose()
    }

    /// Where attachments of a stream are kept.
    pub(crate) fn attachments(&self, endpoint: &Endpoint) -> Option<PathBuf> {
        endpoint.attachments.as_ref().map(|folder| self.context.directory.join(folder))
    }

    /// The paths of a run, and its streams with what the checkpoint knows of them.
    fn streams(&self, from: &Checkpoint) -> Result<(Paths, Vec<Stream>), SourceError> {
        let mut paths: Paths = self.gates.values().map(|gate| (gate.path().to_owned(), None)).collect();
        let mut streams = Vec::with_capacity(self.context.streams.len());
        let now = minute(now_micros());
        for request in &self.context.streams {
            let stream = &request.stream;
            let endpoint = self.endpoint(stream)?;
            let Some(gate) = self.gates.get(stream) else { continue };
            let restoring = |why: String| {
                SourceError::new(ErrorKind::PositionLost, "reading the checkpoint")
                    .because(why)
                    .advise("take the system up anew (--resnapshot): what was pushed within the window may then come twice")
                    .of(stream.clone())
            };
            let told: Option<Vec<String>> = match from.get(&columns_partition(stream)) {
                Some(position) => Some(serde_json::from_value(position.clone()).map_err(|error| restoring(error.to_string()))?),
                None => None,
            };
            let configured = self.columns(stream, endpoint);
            // What was told keeps its place: a setting that changed comes behind it.
            let told_columns = told.as_ref().map_or(0, Vec::len);
            let columns = Columns::new(told.into_iter().flatten().chain(configured.names().to_vec()));
            let is_untold = columns.names().len() != told_columns;
            let columns = Arc::new(RwLock::new(Arc::new(columns)));
            let keys = endpoint.idempotency.as_ref().map(|settings| Keys::restore(from, stream, settings, now)).transpose();
            let taken = Taken { gate: Arc::clone(gate), stream: streams.len(), columns: Arc::clone(&columns) };
            streams.push(Stream::new(stream.clone(), columns, is_untold, has_full_images(endpoint), keys.map_err(restoring)?));
            paths.insert(gate.path().to_owned(), Some(taken));
        }
        Ok((paths, streams))
    }

    /// The columns that a stream has before anything came.
    fn columns(&self, stream: &StreamName, endpoint: &Endpoint) -> Columns {
        let standard = Reader::standard_columns(endpoint.format).iter().map(|name| (*name).to_owned());
        let standard = standard.filter(|_| endpoint.columns.is_empty());
        let op = endpoint.op.iter().map(|op| op.field.clone());
        let fields = endpoint.idempotency.iter().flat_map(|idempotency| idempotency.fields.clone());
        let mapped = self.context.streams.iter().filter(|request| request.stream == *stream).flat_map(|request| request.columns.clone());
        let configured = endpoint.columns.iter().chain(&endpoint.key).cloned();
        Columns::new(standard.chain(configured).chain(op).chain(fields).chain(mapped))
    }

    fn shape(&self, stream: StreamName, endpoint: &Endpoint) -> StreamShape {
        let columns = self.columns(&stream, endpoint);
        let key = |name: &str| endpoint.key.iter().position(|key| key == name).and_then(|place| u16::try_from(place + 1).ok());
        let column =
            |name: &String| Column { name: name.clone(), source_type: TEXT.to_owned(), nullable: true, key: key(name), comment: None };
        StreamShape {
            stream,
            schema: TextRows::new(columns.names()).schema(),
            columns: columns.names().iter().map(column).collect(),
            identity: endpoint.key.clone(),
            full_images: has_full_images(endpoint),
            rows: None,
            bytes: None,
            findings: Vec::new(),
        }
    }

    /// Removes what the checkpoint holds of streams that are no longer asked for, and of keys that are no longer kept.
    fn cleaning(&self, from: &Checkpoint) -> Checkpoint {
        let mut cleaning = Checkpoint::empty();
        let kept = |partition: &str| {
            partition == SEQUENCE
                || self.context.streams.iter().any(|request| {
                    let has_keys = self.endpoint(&request.stream).is_ok_and(|endpoint| endpoint.idempotency.is_some());
                    partition == columns_partition(&request.stream) || (has_keys && is_of(partition, request.stream.as_str()))
                })
        };
        let ours = |partition: &str| partition.starts_with("keys/") || partition.starts_with("columns/");
        for (partition, position) in from.iter() {
            if position.is_some() && ours(partition) && !kept(partition) {
                cleaning.remove(partition);
            }
        }
        cleaning
    }
}

/// Says that a run listens, for as long as it lives.
struct Listens<'a>(&'a AtomicBool);

impl<'a> Listens<'a> {
    fn begin(state: &'a AtomicBool) -> Self {
        state.store(true, Ordering::Release);
        Self(state)
    }
}

impl Drop for Listens<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Without deletes there is no row that has its key alone.
fn has_full_images(endpoint: &Endpoint) -> bool {
    endpoint.op.is_none()
}
