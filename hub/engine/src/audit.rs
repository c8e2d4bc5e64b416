//! The audit topic of a system: made with the first exchange that is told, for most systems tell none.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_kafka::{Cleanup, TopicSpec};
use hub_model::{Block, Evidence, SystemName};
use hub_transform::audit;

use crate::RunError;
use crate::node::Shared;
use crate::prepare::{ensure, register};

/// Level-3 information systems keep such logs for at least 3 months, 12 being recommended.
const KEPT_MS: i64 = 366 * 24 * 3600 * 1000;

/// Encodes the exchanges of one system.
pub(crate) struct Audit {
    shared: Arc<Shared>,
    system: SystemName,
    topic: Arc<str>,
    /// Known once the topic is there.
    schema_id: Option<u32>,
}

impl Audit {
    /// Of a system; touches nothing yet.
    pub(crate) fn new(shared: &Arc<Shared>, system: &SystemName) -> Self {
        let topic = shared.naming.audit(system.as_str()).into();
        Self { shared: Arc::clone(shared), system: system.clone(), topic, schema_id: None }
    }

    /// The records of exchanges, for the transaction of the rows that came of them.
    ///
    /// # Errors
    /// [`RunError::Kafka`] or [`RunError::Registry`] where the topic cannot be made: nothing is published without its evidence.
    pub(crate) async fn encode(&mut self, evidence: &[Evidence]) -> Result<Block, RunError> {
        let schema_id = match self.schema_id {
            Some(id) => id,
            None => self.prepare().await?,
        };
        Ok(audit::encode(&self.topic, schema_id, self.system.as_str(), evidence))
    }

    async fn prepare(&mut self) -> Result<u32, RunError> {
        let settings = BTreeMap::from([("retention.ms".to_owned(), KEPT_MS.to_string())]);
        let replication = self.shared.kafka.replication;
        let spec = TopicSpec { name: self.topic.to_string(), partitions: 1, replication, cleanup: Cleanup::Delete, settings };
        ensure(&self.shared, &[spec], format!("creating the audit topic of {}", self.system)).await?;
        let id = register(&self.shared, &format!("{}-value", self.topic), audit::SCHEMA).await?;
        self.schema_id = Some(id);
        Ok(id)
    }
}
