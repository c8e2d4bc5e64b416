//! Takes a system away: its source lets go of slot and publication, its checkpoint and status are forgotten, and last its record
//! goes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hub_kafka::{Lane, Table};
use hub_model::SystemName;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::error::panicked;
use crate::node::Shared;
use crate::prepare;
use crate::spec::Desired;
use crate::status::{Board, State};
use crate::supervisor::open;

/// Between two attempts at a source that does not let go.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// One system that is being removed.
pub(crate) struct Removal {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desired: Desired,
    pub(crate) system: SystemName,
    pub(crate) lane: Arc<Lane>,
    pub(crate) board: Board,
    /// The connectors topic, which holds its record until all else is done.
    pub(crate) topic: String,
}

impl Removal {
    /// Tries until it is done or `stop`. A record that is still there after a crash begins it again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = AssertUnwindSafe(self.attempt()).catch_unwind() => outcome,
            };
            let outcome = outcome.unwrap_or_else(|panic| Err(panicked("removing a system", &*panic)));
            let Err(error) = outcome else {
                tracing::info!(system = %self.system, "removed: slot, publication, checkpoint and record");
                return self.shared.metrics.forget_system(self.system.as_str());
            };
            tracing::error!(system = %self.system, %error, "the system cannot be removed yet; the hub tries again");
            self.board.enter(State::Removing, Some(error.to_string()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
        }
    }

    async fn attempt(&self) -> Result<(), RunError> {
        open(&self.desired, &self.shared.kinds, &*self.shared.secrets, None).await?.release().await?;
        prepare::forget(&self.lane, &self.system).await?;
        let failed = |error: hub_kafka::Error| RunError::Kafka {
            doing: format!("deleting the status of {}", self.system),
            cause: crate::error::chain(&error),
        };
        self.shared.bulletin.forget(self.system.as_str()).await.map_err(failed)?;
        let doing = || format!("deleting the record of {}", self.system);
        let kafka = |error: hub_kafka::Error| RunError::Kafka { doing: doing(), cause: error.to_string() };
        Table::open(&self.shared.kafka, &self.topic).map_err(kafka)?.delete(self.system.as_str()).await.map_err(kafka)?;
        Ok(())
    }
}
