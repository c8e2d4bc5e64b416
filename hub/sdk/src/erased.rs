//! Connectors behind one object-safe face, so that the engine names none of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hub_model::{ChangeBatch, Checkpoint, StreamName};
use serde_json::Value;

use crate::{Abilities, Connector, ErrorKind, OpenContext, Outlet, Probe, Progress, SourceError, SourceGauge, StreamShape};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigFault {
    /// JSON pointer into the `config:` section, `/tls/mode`; empty for the whole.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A name as one part of a JSON pointer.
#[must_use]
pub fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// [`Connector`] without its types.
pub trait DynConnector: Send + Sync {
    /// See [`Connector::probe`].
    fn probe(&self) -> Answer<'_, Probe>;
    /// See [`Connector::discover`].
    fn discover(&self) -> Answer<'_, Vec<StreamShape>>;
    /// See [`Connector::sample`].
    fn sample<'a>(&'a self, stream: &'a StreamName, rows: usize) -> Answer<'a, ChangeBatch>;
    /// See [`Connector::scan`].
    fn scan<'a>(&'a self, stream: &'a StreamName, outlet: Outlet) -> Answer<'a, ()>;
    /// See [`Connector::capture`].
    fn capture(&self, from: Checkpoint, outlet: Outlet) -> Answer<'_, ()>;
    /// See [`Connector::acknowledge`].
    fn acknowledge(&self, durable: &Checkpoint);
    /// See [`Connector::gauges`].
    fn gauges(&self) -> Answer<'_, Vec<SourceGauge>>;
    /// See [`Connector::progress`].
    fn progress(&self) -> Vec<Progress>;
    /// See [`Connector::release`].
    fn release(&self) -> Answer<'_, ()>;
}

impl<C: Connector> DynConnector for C {
    fn probe(&self) -> Answer<'_, Probe> {
        Box::pin(Connector::probe(self))
    }
    fn discover(&self) -> Answer<'_, Vec<StreamShape>> {
        Box::pin(Connector::discover(self))
    }
    fn sample<'a>(&'a self, stream: &'a StreamName, rows: usize) -> Answer<'a, ChangeBatch> {
        Box::pin(Connector::sample(self, stream, rows))
    }
    fn scan<'a>(&'a self, stream: &'a StreamName, outlet: Outlet) -> Answer<'a, ()> {
        Box::pin(Connector::scan(self, stream, outlet))
    }
    fn capture(&self, from: Checkpoint, outlet: Outlet) -> Answer<'_, ()> {
        Box::pin(Connector::capture(self, from, outlet))
    }
    fn acknowledge(&self, durable: &Checkpoint) {
        Connector::acknowledge(self, durable);
    }
    fn gauges(&self) -> Answer<'_, Vec<SourceGauge>> {
        Box::pin(Connector::gauges(self))
    }
    fn progress(&self) -> Vec<Progress> {
        Connector::progress(self)
    }
    fn release(&self) -> Answer<'_, ()> {
        Box::pin(Connector::release(self))
    }
}

type Open = fn(Value, OpenContext) -> Answer<'static, Arc<dyn DynConnector>>;

/// One kind of connector, as `connectors/all` lists it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name in `connector:` of a system file.
    pub name: &'static str,
    /// Its name in the envelope's `source.connector`.
    pub source: &'static str,
    schema: fn() -> Value,
    check: fn(&Value) -> Vec<ConfigFault>,
    abilities: fn(&Value) -> Option<Abilities>,
    open: Open,
}

impl Kind {
    /// The kind of a connector type.
    #[must_use]
    pub fn of<C: Connector>() -> Self {
        Self {
            name: C::NAME,
            source: C::SOURCE,
            schema: || serde_json::to_value(schemars::schema_for!(C::Config)).unwrap_or(Value::Bool(true)),
            check: |config| match parse::<C>(config) {
                Ok(config) => C::check(&config),
                Err(fault) => vec![fault],
            },
            abilities: |config| parse::<C>(config).ok().map(|config| C::abilities(&config)),
            open: |config, context| {
                Box::pin(async move {
                    let config = parse::<C>(&config).map_err(|fault| {
                        SourceError::new(ErrorKind::BadConfig, format!("reading the configuration of {}", context.system))
                            .because(format!("{}: {}", fault.pointer, fault.message))
                    })?;
                    let connector: Arc<dyn DynConnector> = Arc::new(C::open(config, context).await?);
                    Ok(connector)
                })
            },
        }
    }

    /// JSON Schema of its `config:` section.
    #[must_use]
    pub fn config_schema(&self) -> Value {
        (self.schema)()
    }

    /// Faults of a configuration, found without the network.
    #[must_use]
    pub fn check(&self, config: &Value) -> Vec<ConfigFault> {
        (self.check)(config)
    }

    /// What it can do with a configuration; `None` where that cannot be parsed.
    #[must_use]
    pub fn abilities(&self, config: &Value) -> Option<Abilities> {
        (self.abilities)(config)
    }

    /// Opens a connector. Secrets in `config` are already resolved.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] where the configuration cannot be parsed, or what the connector says.
    pub async fn open(&self, config: Value, context: OpenContext) -> Result<Arc<dyn DynConnector>, SourceError> {
        (self.open)(config, context).await
    }
}

fn parse<C: Connector>(config: &Value) -> Result<C::Config, ConfigFault> {
    // serde_path_to_error would give the pointer; the message of serde names the field, which is enough here:
    // `cli` maps it back to a line of the file.
    serde_json::from_value(config.clone()).map_err(|error| ConfigFault { pointer: String::new(), message: error.to_string() })
}
