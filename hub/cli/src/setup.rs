//! What several commands need before they can work: Kafka, the schema registry.

use std::time::Duration;

use hub_engine::spec::Naming;
use hub_kafka::KafkaConfig;

use crate::config::HubFile;
use crate::failure::Failure;

/// Waits until Kafka answers, saying so; a hub may be started before its Kafka.
pub(crate) async fn wait_for_kafka(config: &KafkaConfig) -> Result<(), Failure> {
    let mut back_off = hub_engine::policy::BackOff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        match hub_engine::reach_kafka(config).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let wait = back_off.next(1.0);
                tracing::warn!(%error, wait_ms = wait.as_millis(), "kafka does not answer; trying again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// TEMPORARY stand-in until the registry crate lands: numbers schemas in memory.
#[derive(Default)]
struct Memory(std::sync::Mutex<Vec<String>>);

impl hub_engine::SchemaRegistrar for Memory {
    fn register<'a>(
        &'a self,
        _subject: &'a str,
        schema: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<u32, hub_engine::RegisterError>> + Send + 'a>> {
        Box::pin(async move {
            let mut held = self.0.lock().map_err(|_| hub_engine::RegisterError::Unavailable(String::new()))?;
            let at = held.iter().position(|known| known == schema).unwrap_or_else(|| {
                held.push(schema.to_owned());
                held.len() - 1
            });
            Ok(u32::try_from(at + 1).unwrap_or(0))
        })
    }
}

pub(crate) async fn registry(_hub: &HubFile, _naming: &Naming) -> Result<std::sync::Arc<dyn hub_engine::SchemaRegistrar>, Failure> {
    Ok(std::sync::Arc::new(Memory::default()))
}
