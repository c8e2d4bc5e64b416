//! The connector: what the hub asks of it, carried out by children.

use std::sync::Arc;

use hub_sdk::model::{ChangeBatch, Checkpoint, Op, StreamName};
use hub_sdk::{
    Abilities, Column, ConfigFault, Connector, Delivery, Ended, ErrorKind, OpenContext, Outlet, Probe, Progress, SourceError, SourceGauge,
    StreamRequest, StreamShape,
};

use crate::ask::discover;
use crate::capture::{Capture, defect};
use crate::catalog::Offered;
use crate::child::Running;
use crate::config::{ExecConfig, ExecStream, Mode};
use crate::plan::{Plan, broken, plan};
use crate::run::{Paused, Run, Streams};
use crate::schema::ColumnShape;
use crate::source::Source;
use crate::state::States;

/// An Airbyte source or a Singer tap, run as a child.
pub struct Exec {
    source: Arc<Source>,
    context: OpenContext,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("config", &self.source.config).finish_non_exhaustive()
    }
}

impl Connector for Exec {
    const NAME: &'static str = "exec";
    type Config = ExecConfig;

    fn abilities(config: &ExecConfig) -> Abilities {
        let all_whole = config.streams.values().all(|stream| stream.mode == Mode::Whole);
        let tells_deletes = |stream: &ExecStream| stream.mode != Mode::Changes || stream.deleted_at.is_some();
        Abilities {
            snapshot: true,
            follow: true,
            // A stream without an entry is read whole.
            deletes: config.streams.is_empty() || config.streams.values().any(tells_deletes),
            before_images: false,
            exactly_once: all_whole,
            every_change: false,
            listens: false,
            add_streams: true,
            truncates: false,
        }
    }

    fn check(config: &ExecConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: ExecConfig, context: OpenContext) -> Result<Self, SourceError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system))
                .because(format!("{} {}", fault.pointer, fault.message)));
        }
        Ok(Self { source: Arc::new(Source::open(config, &context)?), context })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        crate::probe::probe(&self.source, &self.context).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        discover(&self.source).await?.into_iter().map(|offered| self.shape(offered)).collect()
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let (mut run, mut streams) = self.single(stream).await?;
        let limits = hub_sdk::BatchLimits { rows: rows.max(1), ..self.context.limits };
        let mut states = States::default();
        while run.step(&mut streams, &mut states, limits).await == Paused::Slice && streams.all[0].waiting().0 < rows {}
        let batches = streams.all[0].batches().map_err(defect)?;
        let first = batches.into_iter().find(|batch| batch.ops.first() == Some(&Op::Read));
        if let Some(batch) = first {
            // It is in the midst of reading, and nobody wants the rest.
            run.end().await;
            return Ok(batch);
        }
        match run.finish().await.error {
            Some(error) => Err(error.of(stream.clone())),
            None => streams.all[0].empty().map_err(|error| defect(error).of(stream.clone())),
        }
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        let (mut run, mut streams) = self.single(stream).await?;
        let mut states = States::default();
        loop {
            let paused = tokio::select! {
                paused = run.step(&mut streams, &mut states, self.context.limits) => paused,
                () = outlet.shut() => {
                    run.end().await;
                    return Ok(());
                }
            };
            let mut batches = streams.all[0].batches().map_err(defect)?;
            batches.retain(|batch| batch.ops.first() == Some(&Op::Read));
            if !batches.is_empty() {
                let pulse = run.pulse();
                let delivered = Running::holding(&pulse, outlet.deliver(Delivery::new(batches, Checkpoint::empty()))).await;
                if delivered.is_err() {
                    run.end().await;
                    return Ok(());
                }
            }
            if paused == Paused::Over {
                break;
            }
        }
        match run.finish().await.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        if self.context.streams.is_empty() {
            outlet.shut().await;
            return Ok(());
        }
        let ended = match Capture::begin(Arc::clone(&self.source), self.context.clone(), &from, outlet).await {
            Ok(capture) => capture.run().await,
            Err(ended) => Err(ended),
        };
        match ended {
            Ok(()) | Err(Ended::Shut) => Ok(()),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn acknowledge(&self, _durable: &Checkpoint) {}

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        Ok(self.source.board.gauges())
    }

    fn progress(&self) -> Vec<Progress> {
        self.source.board.progress()
    }

    async fn release(&self) -> Result<(), SourceError> {
        // Nothing is kept at the source; a configuration that it has changed is of no use any more.
        self.source.forget()
    }
}

impl Exec {
    /// A run that reads one stream alone, from its beginning.
    async fn single(&self, stream: &StreamName) -> Result<(Run, Streams), SourceError> {
        let offered = discover(&self.source).await?;
        let asked = self.context.streams.iter().find(|request| request.stream == *stream).cloned();
        let request = asked.unwrap_or_else(|| StreamRequest { stream: stream.clone(), columns: Vec::new() });
        let plan = plan(&self.source.config, &offered, &request).map_err(|finding| broken(finding, stream))?;
        let restored = Streams::restore(vec![plan], &Checkpoint::empty(), self.source.config.remember_rows);
        let mut streams = restored.map_err(|(_, why)| SourceError::new(ErrorKind::Defect, "reading one stream").because(why))?;
        let run = Run::start(&self.source, &offered, &mut streams, &States::default()).await?;
        Ok((run, streams))
    }

    fn shape(&self, offered: Offered) -> Result<StreamShape, SourceError> {
        let invalid = |error| SourceError::new(ErrorKind::Defect, "naming the streams of the source").because(error);
        let stream = StreamName::new(&offered.name).map_err(invalid)?;
        let request = StreamRequest { stream: stream.clone(), columns: Vec::new() };
        let name = std::slice::from_ref(&offered);
        let (columns, identity, findings) = match plan(&self.source.config, name, &request) {
            Ok(Plan { columns, wanted, findings, .. }) => (columns, wanted.key, findings),
            Err(finding) => (offered.columns.clone(), offered.key.clone(), vec![finding]),
        };
        let fields: Vec<_> = columns.iter().map(ColumnShape::field).collect();
        let described = columns.into_iter().map(|column| Column {
            key: identity.iter().position(|key| *key == column.name).and_then(|place| u16::try_from(place + 1).ok()),
            name: column.name,
            source_type: column.source_type,
            nullable: column.nullable,
            comment: column.comment,
        });
        Ok(StreamShape {
            stream,
            schema: Arc::new(arrow::datatypes::Schema::new(fields)),
            columns: described.collect(),
            identity,
            full_images: false,
            rows: offered.rows,
            bytes: None,
            findings,
        })
    }
}
