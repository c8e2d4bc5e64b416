//! The connector: what the hub calls, put together from folder, files and rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::future::try_join_all;
use hub_sdk::model::{ChangeBatch, Checkpoint, SOURCE_TYPE, StreamName};
use hub_sdk::records::TEXT;
use hub_sdk::{
    Abilities, BatchLimits, Column, ConfigFault, Connector, Delivery, Ended, ErrorKind, Finding, Known, Looks, OpenContext, Outlet, Probe,
    SourceError, SourceGauge, StreamShape, now_micros,
};

use crate::board::Board;
use crate::capture::{Follower, blocking, unreadable};
use crate::columns::Columns;
use crate::config::{FileStream, FilesConfig, Format, Mode};
use crate::reading::{Held, Manner, Reading};
use crate::rows::Trouble;
use crate::store::{Entry, Store, StoreError};
use crate::taken::Files as Taken;

/// A folder of files as a source.
pub struct Files {
    pub(crate) config: Arc<FilesConfig>,
    pub(crate) context: OpenContext,
    pub(crate) store: Arc<Store>,
    board: Arc<Board>,
}

impl Connector for Files {
    const NAME: &'static str = "files";
    type Config = FilesConfig;

    fn abilities(config: &FilesConfig) -> Abilities {
        Abilities {
            snapshot: true,
            follow: true,
            deletes: config.streams.values().any(|stream| stream.mode == Mode::Whole),
            before_images: false,
            exactly_once: true,
            every_change: config.streams.values().all(|stream| stream.mode == Mode::Append),
            listens: false,
            add_streams: true,
            truncates: false,
        }
    }

    fn check(config: &FilesConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(mut config: FilesConfig, context: OpenContext) -> Result<Self, SourceError> {
        let opening = || SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system));
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(opening().because(format!("{} {}", fault.pointer, fault.message)));
        }
        for folder in config.streams.values_mut().filter_map(|stream| stream.attachments.as_mut()) {
            *folder = context.directory.join(&*folder);
        }
        config.spool = config.spool.map(|spool| context.directory.join(spool));
        let store = Store::new(&config, &context.directory).map_err(|error| error.told(format!("opening system {}", context.system)))?;
        Ok(Self { config: Arc::new(config), context, store: Arc::new(store), board: Arc::default() })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        crate::probe::probe(self).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        self.reached().await.map_err(|error| self.lost(error))?;
        let mut shapes = Vec::new();
        for name in self.config.streams.keys() {
            let stream = StreamName::new(name).map_err(|error| self.error(ErrorKind::BadConfig).because(error))?;
            shapes.push(self.shape(stream).await?);
        }
        Ok(shapes)
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let files = self.files(stream).await?;
        let looking = |error: SourceError| error.of(stream.clone());
        let Some(newest) = files.last() else {
            let rows = self.columns(stream)?.finish(false).map_err(|error| looking(self.error(ErrorKind::Defect).because(error)))?.0;
            return Ok(Looks::restore(&Checkpoint::empty(), stream).begin().batch(stream, Vec::new(), rows, false));
        };
        let reading = self.reading(stream, newest, self.manner(stream)?, self.held(stream)?).await?;
        let limits = BatchLimits { rows: rows.max(1), ..BatchLimits::default() };
        let (_reading, stepped, slice) = blocking(move || reading.stepped(limits)).await?;
        // What comes before a fault of the file is a sample all the same.
        let slice = slice.map_err(|error| looking(self.error(ErrorKind::Defect).because(error)))?;
        if let Err(trouble) = stepped
            && slice.ops.is_empty()
        {
            return Err(looking(self.told(trouble, newest)));
        }
        let mut look = Looks::restore(&Checkpoint::empty(), stream).begin();
        let found = look.batches(stream, &slice.rows, &slice.ops, &slice.faults, false);
        let (schema, first) = (slice.rows.schema(), found.into_iter().next());
        Ok(first.unwrap_or_else(|| look.batch(stream, Vec::new(), arrow::record_batch::RecordBatch::new_empty(schema), false)))
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        let mut look = Looks::restore(&Checkpoint::empty(), stream).begin();
        let mut files = self.files(stream).await?;
        if self.stream(stream)?.mode == Mode::Whole {
            files = files.split_off(files.len().saturating_sub(1));
        }
        let mut held = self.held(stream)?;
        for entry in files {
            let mut reading = self.reading(stream, &entry, Manner { keeps: true, ..self.manner(stream)? }, held).await?;
            loop {
                let limits = self.context.limits;
                let (back, stepped, slice) = blocking(move || reading.stepped(limits)).await?;
                reading = back;
                let is_over = stepped.map_err(|trouble| self.told(trouble, &entry).of(stream.clone()))?;
                let slice = slice.map_err(|error| self.error(ErrorKind::Defect).because(error).of(stream.clone()))?;
                let batches = look.batches(stream, &slice.rows, &slice.ops, &slice.faults, false);
                if !batches.is_empty() && outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await.is_err() {
                    return Ok(());
                }
                if is_over {
                    break;
                }
            }
            held = reading.held;
        }
        Ok(())
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        let mut runs = Vec::new();
        if self.context.streams.is_empty() {
            outlet.shut().await;
        }
        for request in &self.context.streams {
            runs.push(self.follower(&request.stream, &from, outlet.clone())?.run());
        }
        match try_join_all(runs).await {
            Ok(_) | Err(Ended::Shut) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn acknowledge(&self, _durable: &Checkpoint) {}

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        // A server is not asked every few seconds whether it is there; the looks say so.
        if self.store.is_local() {
            self.reached().await.map_err(|error| self.lost(error))?;
        }
        let waiting = self.board.sum();
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let now = u64::try_from(now_micros()).unwrap_or(0);
        let age = waiting.oldest.map_or(0.0, |oldest| now.saturating_sub(oldest) as f64 / 1e6);
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let gauge = |name, value: usize| SourceGauge { name, label: None, value: value as f64 };
        Ok(vec![
            gauge("files_waiting", waiting.files),
            gauge("files_rejected", waiting.rejected),
            SourceGauge { name: "lag_seconds", label: None, value: age },
        ])
    }

    async fn release(&self) -> Result<(), SourceError> {
        // Nothing is kept at the source. What was put aside is the deliverer's.
        Ok(())
    }
}

impl Files {
    pub(crate) fn error(&self, kind: ErrorKind) -> SourceError {
        SourceError::new(kind, format!("reading {}", self.store.place()))
    }

    /// Makes sure that the place can be listed; how many files are in it.
    pub(crate) async fn reached(&self) -> Result<usize, StoreError> {
        Ok(self.store.list("*").await?.len())
    }

    pub(crate) fn lost(&self, error: StoreError) -> SourceError {
        error.told(format!("reading {}", self.store.place()))
    }

    /// A stream as configured.
    pub(crate) fn stream(&self, name: &StreamName) -> Result<Arc<FileStream>, SourceError> {
        self.config.streams.get(name.as_str()).cloned().map(Arc::new).ok_or_else(|| {
            let names: Vec<_> = self.config.streams.keys().map(String::as_str).collect();
            self.error(ErrorKind::BadConfig)
                .because(format!("`streams` of the configuration has no {name}; it has {}", names.join(", ")))
                .advise("add it with the pattern of its files, or mend `source` of the mapping")
                .of(name.clone())
        })
    }

    /// The files of a stream that are there, in the order of their delivery.
    pub(crate) async fn files(&self, name: &StreamName) -> Result<Vec<Entry>, SourceError> {
        let pattern = &self.stream(name)?.pattern;
        self.store.list(pattern).await.map_err(|error| self.lost(error).of(name.clone()))
    }

    /// Columns that a file of a stream must have: its key, and what the mapping reads.
    pub(crate) fn needed(&self, name: &StreamName) -> Result<Vec<String>, SourceError> {
        let mut needed = self.stream(name)?.key.clone();
        for request in self.context.streams.iter().filter(|request| request.stream == *name) {
            needed.extend(request.columns.iter().cloned());
        }
        Ok(needed)
    }

    /// The columns that are there before any file is: those of formats whose rows alone say which they have.
    fn columns(&self, name: &StreamName) -> Result<Columns, SourceError> {
        Ok(match self.stream(name)?.format {
            Format::Csv | Format::Tsv | Format::Fixed | Format::Xlsx | Format::Parquet => Columns::default(),
            Format::Json | Format::Ndjson | Format::Xml => Columns::new(&self.needed(name)?),
            Format::Edxml => {
                let first = hub_sdk::edxml::COLUMNS.iter().map(|name| (*name).to_owned());
                Columns::new(&first.chain(self.needed(name)?).collect::<Vec<_>>())
            }
        })
    }

    fn held(&self, name: &StreamName) -> Result<Held, SourceError> {
        let known = Known::restore(&Checkpoint::empty(), name).map_err(|why| self.error(ErrorKind::Defect).because(why))?;
        Ok(Held { known, columns: self.columns(name)?, table: None })
    }

    /// A file of a stream, open, as a snapshot reads it.
    async fn reading(&self, name: &StreamName, entry: &Entry, manner: Manner, held: Held) -> Result<Reading, SourceError> {
        let fetched = self.store.fetch(&entry.name).await.map_err(|error| self.lost(error).of(name.clone()))?;
        let file = entry.name.clone();
        let opened = blocking(move || Reading::open(fetched.file, &file, manner, held).map_err(|refused| refused.1)).await?;
        opened.map_err(|trouble| self.told(trouble, entry).of(name.clone()))
    }

    /// The columns of a file: of its header, or of its first rows where they alone say it.
    pub(crate) async fn columns_of(&self, name: &StreamName, entry: &Entry) -> Result<Vec<String>, SourceError> {
        let fetched = self.store.fetch(&entry.name).await.map_err(|error| self.lost(error).of(name.clone()))?;
        let file = entry.name.clone();
        let manner = Manner { must_have: false, ..self.manner(name)? };
        let held = self.held(name)?;
        let columns = blocking(move || {
            let mut reading = Reading::open(fetched.file, &file, manner, held).map_err(|refused| refused.1)?;
            if !reading.has_header() {
                reading.step(BatchLimits { rows: 1_000, ..BatchLimits::default() })?;
            }
            Ok(reading.columns().to_vec())
        });
        columns.await?.map_err(|trouble| self.told(trouble, entry))
    }

    fn manner(&self, name: &StreamName) -> Result<Manner, SourceError> {
        let (stream, needed) = (self.stream(name)?, self.needed(name)?);
        Ok(Manner {
            stream,
            needed,
            must_have: true,
            document_mib: self.config.document_mib,
            spool: self.config.spool(),
            told: 0,
            is_snapshot: true,
            keeps: false,
        })
    }

    /// A fault of a file as an error.
    pub(crate) fn told(&self, trouble: Trouble, entry: &Entry) -> SourceError {
        let doing = format!("reading {} of {}", entry.name, self.store.place());
        match trouble {
            Trouble::Io(error) => unreadable(error, doing),
            Trouble::Bad(bad) => {
                let place = bad.row.map(|row| format!("row {row}: ")).unwrap_or_default();
                SourceError::new(ErrorKind::StreamBroken, doing)
                    .because(format!("{place}{}", bad.why))
                    .advise("have the file delivered again, or mend the stream's format, encoding or pattern")
            }
        }
    }

    fn follower(&self, name: &StreamName, from: &Checkpoint, outlet: Outlet) -> Result<Follower, SourceError> {
        let wrong = |why: String| self.error(ErrorKind::Mismatch).because(why).advise("read the system anew").of(name.clone());
        let columns = self.columns(name)?;
        Ok(Follower {
            config: Arc::clone(&self.config),
            store: Arc::clone(&self.store),
            name: name.clone(),
            stream: self.stream(name)?,
            needed: self.needed(name)?,
            limits: self.context.limits,
            board: Arc::clone(&self.board),
            outlet,
            looks: Looks::restore(from, name),
            files: Taken::restore(from, name).map_err(wrong)?,
            held: Some(Held { known: Known::restore(from, name).map_err(wrong)?, columns, table: None }),
            before: Default::default(),
            tried: Default::default(),
        })
    }

    /// The columns of a stream's newest file.
    pub(crate) async fn shape(&self, name: StreamName) -> Result<StreamShape, SourceError> {
        let stream = self.stream(&name)?;
        let mut findings = Vec::new();
        let schema = match self.sample(&name, 1_000).await {
            Ok(sample) => sample.rows.schema(),
            Err(error) if error.kind() == ErrorKind::StreamBroken => {
                findings.push(Finding {
                    fatal: true,
                    code: "file-unreadable",
                    message: error.report(),
                    remedy: error.advice().map(str::to_owned),
                });
                self.columns(&name)?.schema()
            }
            Err(error) => return Err(error),
        };
        let files = self.files(&name).await?;
        if files.is_empty() {
            findings.push(crate::probe::no_files(&stream.pattern, self).await);
        }
        let bytes = match stream.mode {
            Mode::Whole => files.last().map(|entry| entry.size),
            Mode::Append => Some(files.iter().map(|entry| entry.size).sum()),
        };
        let columns = columns(&schema, &stream.key);
        Ok(StreamShape { stream: name, schema, columns, identity: stream.key.clone(), full_images: false, rows: None, bytes, findings })
    }
}

fn columns(schema: &SchemaRef, key: &[String]) -> Vec<Column> {
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        source_type: field.metadata().get(SOURCE_TYPE).cloned().unwrap_or_else(|| TEXT.to_owned()),
        nullable: !key.contains(field.name()),
        key: key.iter().position(|key| key == field.name()).and_then(|place| u16::try_from(place + 1).ok()),
        comment: None,
    };
    schema.fields().iter().map(column).collect()
}
