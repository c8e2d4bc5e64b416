//! The connector: what the hub calls, put together from sessions and looks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, SOURCE_TYPE, StreamName};
use hub_sdk::{
    Abilities, Column, ConfigFault, Connector, Delivery, Ended, ErrorKind, Finding, Looks, OpenContext, Outlet, Probe, SourceError,
    SourceGauge, StreamShape, now_micros,
};

use crate::capture::{forgotten, run};
use crate::config::{Mode, OdbcConfig, OdbcStream};
use crate::follower::{Follower, columns_of};
use crate::link::Link;
use crate::memory::Memory;
use crate::reading::{Select, Told};
use crate::session::{Session, Settings};
use crate::tracked::first;

/// A database behind an ODBC driver as a source.
pub struct Odbc {
    pub(crate) config: Arc<OdbcConfig>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) context: OpenContext,
    board: Arc<Board>,
}

/// What the streams say of themselves after each look, for gauges.
#[derive(Debug, Default)]
pub(crate) struct Board {
    streams: Mutex<BTreeMap<StreamName, (i64, usize)>>,
}

impl Board {
    /// A look is over; so many rows are remembered.
    pub(crate) fn looked(&self, stream: &StreamName, remembered: usize) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(stream.clone(), (now_micros(), remembered));
    }

    /// When the stream that was looked at longest ago was, and how many rows are remembered in all.
    fn sum(&self) -> (Option<i64>, usize) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        (streams.values().map(|(at, _)| *at).min(), streams.values().map(|(_, rows)| rows).sum())
    }
}

impl Connector for Odbc {
    const NAME: &'static str = "odbc";
    type Config = OdbcConfig;

    fn abilities(config: &OdbcConfig) -> Abilities {
        let any = |is: fn(&Mode) -> bool| config.streams.values().any(|stream| is(&stream.mode));
        let is_tracked = any(|mode| matches!(mode, Mode::ChangeTracking(_) | Mode::Cdc(_)));
        Abilities {
            snapshot: true,
            follow: true,
            deletes: config.streams.is_empty() || any(|mode| !matches!(mode, Mode::Watermark(mark) if mark.full_compare_every_s.is_none())),
            before_images: false,
            exactly_once: !is_tracked,
            every_change: !config.streams.is_empty() && !any(|mode| !matches!(mode, Mode::Cdc(_))),
            listens: false,
            add_streams: true,
            truncates: false,
        }
    }

    fn check(config: &OdbcConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: OdbcConfig, context: OpenContext) -> Result<Self, SourceError> {
        let opening = || SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system));
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(opening().because(format!("{} {}", fault.pointer, fault.message)));
        }
        let mut own = config.clone();
        // A database that is a file lies beside the configuration, like every other file that it names.
        let settings = Settings::new(config.clone());
        if settings.expected_dialect().is_file()
            && let Some(file) = &config.database
        {
            own.database = Some(context.directory.join(file).to_string_lossy().into_owned());
        }
        Ok(Self { config: Arc::new(config), settings: Arc::new(Settings::new(own)), context, board: Arc::default() })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        crate::probe::probe(self).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        let config = Arc::clone(&self.config);
        self.link().run(move |session| shapes(session, &config)).await
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let (own, name, wanted) = (self.stream(stream), stream.clone(), self.wanted(stream));
        let mut link = self.link();
        let read = link.run(move |session| {
            let key = session.key_of(&own, &name)?;
            let columns = columns_of(&own, &key, &session.wanted(&own, wanted)?);
            let select = Select { sql: session.select(&own, &name, &columns, ""), rows };
            let mut found = None;
            session.read(&select, "reading a sample", |told| match told {
                Told::Columns(columns) => {
                    found = Some((RecordBatch::new_empty(Arc::clone(&columns.schema)), Vec::new()));
                    ControlFlow::Continue(())
                }
                Told::Page(page) => {
                    found = Some((page.rows, page.faults));
                    ControlFlow::Break(())
                }
            })?;
            Ok(found)
        });
        let defect = |why: String| SourceError::new(ErrorKind::Defect, "reading a sample").because(why).of(stream.clone());
        let (sample, faults) =
            read.await.map_err(|error| error.of(stream.clone()))?.ok_or_else(|| defect("it has no columns".to_owned()))?;
        let sample = first(&sample, rows).map_err(|error| defect(error.to_string()))?;
        let mut look = Looks::restore(&Checkpoint::empty(), stream).begin();
        let ops = vec![Op::Read; sample.num_rows()];
        let faults: Vec<_> = faults.into_iter().filter(|fault| (fault.row as usize) < ops.len()).collect();
        let found = look.batches(stream, &sample, &ops, &faults, false).into_iter().next();
        Ok(found.unwrap_or_else(|| look.batch(stream, Vec::new(), sample, false)))
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        let mut link = self.link();
        let (own, name, wanted, rows) = (self.stream(stream), stream.clone(), self.wanted(stream), self.context.limits.rows);
        let select = move |session: &Session| {
            let key = session.key_of(&own, &name)?;
            let columns = columns_of(&own, &key, &session.wanted(&own, wanted)?);
            Ok(Select { sql: session.select(&own, &name, &columns, ""), rows })
        };
        let mut look = Looks::restore(&Checkpoint::empty(), stream).begin();
        let mut reading = link.read(format!("reading {}", link.place()), select);
        if reading.columns().await.is_some() {
            while let Some(page) = reading.page().await {
                let ops = vec![Op::Read; page.rows.num_rows()];
                let batches = look.batches(stream, &page.rows, &ops, &page.faults, false);
                if outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await.is_err() {
                    return Ok(());
                }
            }
        }
        link.finish(reading).await.map_err(|error| error.of(stream.clone()))
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        let mut followers = Vec::new();
        for request in &self.context.streams {
            followers.push(self.follower(&request.stream, &from, &outlet)?);
        }
        let gone = forgotten(&from, &followers);
        if !gone.is_empty() && outlet.deliver(Delivery::new(Vec::new(), gone)).await.is_err() {
            return Ok(());
        }
        match run(self.link(), Arc::clone(&self.config), followers, outlet).await {
            Ok(()) | Err(Ended::Shut) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn acknowledge(&self, _durable: &Checkpoint) {}

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        let (oldest, rows) = self.board.sum();
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let gauge = |name, value: i64| SourceGauge { name, label: None, value: value as f64 };
        let mut gauges = vec![gauge("rows_remembered", i64::try_from(rows).unwrap_or(i64::MAX))];
        gauges.extend(oldest.map(|at| gauge("look_age_seconds", (now_micros() - at).max(0) / 1_000_000)));
        Ok(gauges)
    }

    async fn release(&self) -> Result<(), SourceError> {
        // Nothing is kept at the source.
        Ok(())
    }
}

impl Odbc {
    /// A link of its own, not connected yet.
    pub(crate) fn link(&self) -> Link {
        Link::new(&self.settings)
    }

    /// A stream as configured; one that is not is the table of its name.
    pub(crate) fn stream(&self, name: &StreamName) -> Arc<OdbcStream> {
        Arc::new(self.config.streams.get(name.as_str()).cloned().unwrap_or_default())
    }

    /// The columns that the mapping reads; none means all.
    pub(crate) fn wanted(&self, name: &StreamName) -> Vec<String> {
        let request = self.context.streams.iter().find(|request| request.stream == *name);
        request.map(|request| request.columns.clone()).unwrap_or_default()
    }

    fn follower(&self, name: &StreamName, from: &Checkpoint, outlet: &Outlet) -> Result<Follower, SourceError> {
        let stream = self.stream(name);
        let mut follower = Follower {
            name: name.clone(),
            wanted: self.wanted(name),
            key: stream.key.clone(),
            stream,
            looks: Looks::restore(from, name),
            memory: Memory::Nothing,
            is_complete: false,
            mark: None,
            compared: 0,
            position: None,
            rows: self.context.limits.rows.max(1),
            board: Arc::clone(&self.board),
            outlet: outlet.clone(),
        };
        follower.restore(from).map_err(|why| {
            SourceError::new(ErrorKind::Mismatch, "reading the checkpoint").because(why).advise("read the system anew").of(name.clone())
        })?;
        Ok(follower)
    }
}

/// The configured streams, then the tables that none of them reads.
fn shapes(session: &Session, config: &OdbcConfig) -> Result<Vec<StreamShape>, SourceError> {
    let mut shapes = Vec::new();
    let mut read: Vec<String> = Vec::new();
    for (name, stream) in &config.streams {
        let Ok(own) = StreamName::new(name) else { continue };
        if stream.query.is_none() {
            read.push(stream.table.clone().unwrap_or_else(|| name.clone()));
        }
        shapes.push(shape(session, stream, own)?);
    }
    for table in session.tables()?.into_iter().filter(|table| !read.contains(&table.name)) {
        let Ok(own) = StreamName::new(&table.name) else { continue };
        shapes.push(shape(session, &OdbcStream::default(), own)?);
    }
    Ok(shapes)
}

/// The columns of one stream, or what stands in their way.
fn shape(session: &Session, stream: &OdbcStream, name: StreamName) -> Result<StreamShape, SourceError> {
    let mut findings = Vec::new();
    let described = session.wanted(stream, Vec::new()).and_then(|columns| {
        let condition = if stream.query.is_some() { "" } else { " WHERE 1 = 0" };
        session.columns(&session.select(stream, &name, &columns, condition), "reading the columns")
    });
    let schema = match described {
        Ok(columns) => Arc::clone(&columns.schema),
        Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Throttled) => return Err(error.of(name)),
        Err(error) => {
            let remedy = error.advice().map(str::to_owned);
            findings.push(Finding { fatal: true, code: "unreadable", message: error.chain(), remedy });
            Arc::new(arrow::datatypes::Schema::empty())
        }
    };
    let identity = session.key_of(stream, &name)?;
    if identity.is_empty() && findings.is_empty() {
        findings.push(crate::probe::no_key(&name));
    }
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        source_type: field.metadata().get(SOURCE_TYPE).cloned().unwrap_or_default(),
        nullable: !identity.contains(field.name()),
        key: identity.iter().position(|key| key == field.name()).and_then(|place| u16::try_from(place + 1).ok()),
        comment: None,
    };
    let columns = schema.fields().iter().map(column).collect();
    let full_images = matches!(stream.mode, Mode::Cdc(_));
    Ok(StreamShape { stream: name, columns, schema, identity, full_images, rows: None, bytes: None, findings })
}
