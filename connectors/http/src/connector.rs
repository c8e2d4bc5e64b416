//! The connector: what the hub calls, put together from exchanges and followers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use futures::future::{BoxFuture, try_join_all};
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, StreamName};
use hub_sdk::records::TEXT;
use hub_sdk::{
    Abilities, Column, ConfigFault, Connector, Ended, ErrorKind, Finding, Looks, OpenContext, Outlet, Probe, SourceError, SourceGauge,
    StreamShape, now_micros,
};

use crate::caller::Caller;
use crate::config::{HttpConfig, HttpStream, Keys, Mode};
use crate::follower::Follower;
use crate::keyed::Keyed;
use crate::list::List;
use crate::lookup::Lookups;
use crate::push::Submissions;
use crate::reading::Reading;
use crate::rows::Telling;

/// A service behind HTTP as a source.
pub struct Http {
    pub(crate) config: Arc<HttpConfig>,
    pub(crate) context: OpenContext,
    pub(crate) caller: Arc<Caller>,
    board: Arc<Board>,
}

/// What the streams say of themselves, for gauges.
#[derive(Debug, Default)]
pub(crate) struct Board {
    streams: Mutex<BTreeMap<StreamName, Looked>>,
}

#[derive(Clone, Copy, Debug)]
struct Looked {
    at: i64,
    remembered: usize,
    waiting: usize,
}

impl Board {
    /// A look is over; so many rows or keys are remembered, and so many keys wait to be asked for.
    pub(crate) fn looked(&self, stream: &StreamName, remembered: usize, waiting: usize) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(stream.clone(), Looked { at: now_micros(), remembered, waiting });
    }

    fn gauges(&self) -> Vec<SourceGauge> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = streams.values().map(|looked| looked.at).min();
        let sum = |of: fn(&Looked) -> usize| streams.values().map(of).sum::<usize>();
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let gauge = |name, value: f64| SourceGauge { name, label: None, value };
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let mut gauges = vec![
            gauge("rows_remembered", sum(|looked| looked.remembered) as f64),
            gauge("keys_waiting", sum(|looked| looked.waiting) as f64),
        ];
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        gauges.extend(oldest.map(|at| gauge("look_age_seconds", (now_micros() - at).max(0) as f64 / 1e6)));
        gauges
    }
}

impl Connector for Http {
    const NAME: &'static str = "http";
    type Config = HttpConfig;

    fn abilities(config: &HttpConfig) -> Abilities {
        let sees_deletes = |stream: &HttpStream| match &stream.mode {
            Mode::Whole | Mode::Lookup(_) => true,
            Mode::Watermark(watermark) => watermark.full_every_s.is_some(),
            Mode::Push(_) => false,
        };
        Abilities {
            snapshot: true,
            follow: true,
            deletes: config.streams.values().any(sees_deletes),
            before_images: false,
            exactly_once: true,
            every_change: false,
            listens: false,
            add_streams: true,
            truncates: false,
        }
    }

    fn check(config: &HttpConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: HttpConfig, context: OpenContext) -> Result<Self, SourceError> {
        let opening = || SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system));
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(opening().because(format!("{} {}", fault.pointer, fault.message)));
        }
        let config = Arc::new(config);
        let caller = Arc::new(Caller::new(context.system.as_str(), Arc::clone(&config), &context.directory)?);
        Ok(Self { config, context, caller, board: Arc::default() })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        crate::probe::probe(self).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        let mut shapes = Vec::new();
        for name in self.config.streams.keys() {
            let stream =
                StreamName::new(name).map_err(|error| SourceError::new(ErrorKind::BadConfig, "reading the streams").because(error))?;
            shapes.push(self.shape(stream).await?);
        }
        Ok(shapes)
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let mut telling = self.telling(stream)?;
        for row in self.reading(stream)?.sample(rows).await? {
            telling.tell(Op::Read, &row, None);
        }
        let mut look = Looks::restore(&Checkpoint::empty(), stream).begin();
        let schema = telling.schema();
        let batches = telling
            .batches(stream, &mut look)
            .map_err(|error| SourceError::new(ErrorKind::Defect, "reading a sample").because(error).of(stream.clone()))?;
        Ok(batches.into_iter().next().unwrap_or_else(|| look.batch(stream, Vec::new(), RecordBatch::new_empty(schema), false)))
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        let telling = self.telling(stream)?;
        self.reading(stream)?.scan(telling, self.context.limits, outlet).await
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        let mut runs: Vec<BoxFuture<'_, Result<(), Ended>>> = Vec::new();
        for request in &self.context.streams {
            runs.push(self.run_of(&request.stream, &from, outlet.clone())?);
        }
        if runs.is_empty() {
            outlet.shut().await;
            return Ok(());
        }
        let forgotten = self.forgotten(&from);
        if !forgotten.is_empty() && outlet.deliver(hub_sdk::Delivery::new(Vec::new(), forgotten)).await.is_err() {
            return Ok(());
        }
        // A request that is under way is given up when nobody receives: nothing of it was promised.
        let ended = tokio::select! {
            ended = try_join_all(runs) => ended,
            () = outlet.shut() => return Ok(()),
        };
        match ended {
            Ok(_) | Err(Ended::Shut) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn acknowledge(&self, _durable: &Checkpoint) {}

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        let mut gauges = self.board.gauges();
        let is_open = self.caller.site.breaker.is_open();
        gauges.push(SourceGauge { name: "breaker_open", label: None, value: if is_open { 1.0 } else { 0.0 } });
        let used = self.caller.site.used_today(&self.config.rate);
        gauges.push(SourceGauge { name: "requests_today", label: None, value: f64::from(used) });
        Ok(gauges)
    }

    async fn release(&self) -> Result<(), SourceError> {
        // Nothing is kept at the service: tokens end by themselves.
        Ok(())
    }
}

impl Http {
    /// A stream as configured.
    pub(crate) fn stream(&self, name: &StreamName) -> Result<Arc<HttpStream>, SourceError> {
        self.config.streams.get(name.as_str()).cloned().map(Arc::new).ok_or_else(|| {
            let names: Vec<_> = self.config.streams.keys().map(String::as_str).collect();
            SourceError::new(ErrorKind::BadConfig, "reading the streams")
                .because(format!("`streams` of the configuration has no {name}; it has {}", names.join(", ")))
                .advise("add it with its path, or mend `source` of the mapping")
                .of(name.clone())
        })
    }

    /// Columns that a stream has whether a row has them or not: its key, and what the mapping reads.
    pub(crate) fn needed(&self, name: &StreamName) -> Result<Vec<String>, SourceError> {
        let mut needed = self.stream(name)?.key.clone();
        for request in self.context.streams.iter().filter(|request| request.stream == *name) {
            needed.extend(request.columns.iter().cloned());
        }
        Ok(needed)
    }

    fn telling(&self, name: &StreamName) -> Result<Telling, SourceError> {
        Ok(Telling::new(&self.stream(name)?.key, &self.needed(name)?))
    }

    /// A reading of a stream outside of a capture.
    pub(crate) fn reading(&self, name: &StreamName) -> Result<Reading, SourceError> {
        Ok(Reading {
            caller: Arc::clone(&self.caller),
            name: name.clone(),
            stream: self.stream(name)?,
            topics: self.context.topics.clone(),
            directory: self.context.directory.clone(),
        })
    }

    fn run_of(&self, name: &StreamName, from: &Checkpoint, outlet: Outlet) -> Result<BoxFuture<'static, Result<(), Ended>>, SourceError> {
        let wrong = |why: String| {
            SourceError::new(ErrorKind::Mismatch, "reading the checkpoint").because(why).advise("read the system anew").of(name.clone())
        };
        let stream = self.stream(name)?;
        let other = if stream.keys().is_some() { "known" } else { "asked" };
        let other = format!("{other}/{name}/");
        if from.iter().any(|(partition, position)| position.is_some() && partition.starts_with(&other)) {
            return Err(wrong("the stream was read in another mode before".to_owned()));
        }
        let mut follower = Follower {
            caller: Arc::clone(&self.caller),
            name: name.clone(),
            stream: Arc::clone(&stream),
            limits: self.context.limits,
            outlet,
            looks: Looks::restore(from, name),
            telling: self.telling(name)?,
            trail: Arc::default(),
            board: Arc::clone(&self.board),
            counted: (0, 0),
        };
        follower.restore_budget(from);
        Ok(match &stream.mode {
            Mode::Whole | Mode::Watermark(_) => Box::pin(List::new(follower, from).map_err(wrong)?.run()),
            Mode::Lookup(lookup) => {
                let keyed = self.keyed(follower, from, &lookup.keys, lookup.max_keys)?;
                Box::pin(Lookups::new(keyed, lookup.as_ref().clone()).run())
            }
            Mode::Push(push) => {
                let keyed = self.keyed(follower, from, &push.keys, push.max_keys)?;
                Box::pin(Submissions::new(keyed, push.as_ref().clone(), self.context.system.as_str()).run())
            }
        })
    }

    fn keyed(&self, follower: Follower, from: &Checkpoint, keys: &Keys, max_keys: usize) -> Result<Keyed, SourceError> {
        Keyed::new(follower, from, (keys, max_keys), self.context.topics.as_ref(), &self.context.directory)
    }

    /// What the checkpoint holds of streams that are no longer wanted.
    fn forgotten(&self, from: &Checkpoint) -> Checkpoint {
        let mut forgotten = Checkpoint::empty();
        for (partition, position) in from.iter() {
            let Some((family, rest)) = partition.split_once('/').filter(|_| position.is_some()) else { continue };
            let name = match family {
                // Segments are numbered behind the stream's name.
                "known" | "asked" => rest.rsplit_once('/').map_or(rest, |(name, _)| name),
                "list" | "look" | "keys" | "asked-today" => rest,
                _ => continue,
            };
            if !self.context.streams.iter().any(|request| request.stream.as_str() == name) {
                forgotten.remove(partition);
            }
        }
        forgotten
    }

    /// The columns of a stream, as its first rows have them.
    async fn shape(&self, name: StreamName) -> Result<StreamShape, SourceError> {
        let stream = self.stream(&name)?;
        let (mut findings, mut telling) = (Vec::new(), self.telling(&name)?);
        match self.reading(&name)?.sample(1_000).await {
            Ok(rows) => rows.iter().for_each(|row| telling.tell(Op::Read, row, None)),
            Err(error) if matches!(error.kind(), ErrorKind::StreamBroken | ErrorKind::BadConfig | ErrorKind::NotPrepared) => {
                findings.push(Finding {
                    fatal: true,
                    code: "stream-unreadable",
                    message: error.report(),
                    remedy: error.advice().map(str::to_owned),
                });
            }
            Err(error) => return Err(error),
        }
        let schema = telling.schema();
        let column = |field: &Arc<arrow::datatypes::Field>| Column {
            name: field.name().clone(),
            source_type: TEXT.to_owned(),
            nullable: !stream.key.contains(field.name()),
            key: stream.key.iter().position(|key| key == field.name()).and_then(|place| u16::try_from(place + 1).ok()),
            comment: None,
        };
        let columns = schema.fields().iter().map(column).collect();
        Ok(StreamShape {
            stream: name,
            columns,
            schema,
            identity: stream.key.clone(),
            full_images: false,
            rows: None,
            bytes: None,
            findings,
        })
    }
}
