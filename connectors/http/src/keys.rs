//! Where keys come from: a canonical topic that is followed, or a list in a PostgreSQL that is read again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use hub_sdk::{ErrorKind, KeyTopics, SourceError, TopicKeys};
use serde_json::Value;
use tokio_postgres::config::SslMode;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Keys, SqlKeys, SqlTls, Tls};

/// How long a list in a database may take.
const QUERY: Duration = Duration::from_secs(300);

/// Keys as they come.
pub(crate) enum KeySource {
    /// A topic that is followed.
    Topic(BoxStream<'static, Result<TopicKeys, SourceError>>),
    /// A list that is read again and again.
    Sql(Box<List>),
}

/// A list in a database.
pub(crate) struct List {
    settings: SqlKeys,
    tls: Option<rustls::ClientConfig>,
    read_at: Option<Instant>,
}

/// What a look for keys brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Keys, each with the further columns of its list.
    pub(crate) keys: Vec<(String, Row)>,
    /// Where a topic is read on.
    pub(crate) position: Option<Value>,
    /// All keys that are there were handed over.
    pub(crate) is_caught_up: bool,
}

/// Further columns of a key, by name.
pub(crate) type Row = Arc<BTreeMap<String, String>>;

impl KeySource {
    /// Prepares to read on after `position`.
    pub(crate) fn open(
        keys: &Keys,
        topics: Option<&Arc<dyn KeyTopics>>,
        position: Option<Value>,
        directory: &Path,
    ) -> Result<Self, SourceError> {
        match keys {
            Keys::Topic(topic) => {
                let Some(topics) = topics else {
                    return Err(SourceError::new(ErrorKind::NotPrepared, format!("reading keys from topic {}", topic.name))
                        .because("there is no Kafka here to read topics from")
                        .advise("run it with the hub's Kafka within reach"));
                };
                Ok(Self::Topic(topics.keys(&topic.name, &topic.field, position)))
            }
            Keys::Sql(settings) => {
                let tls = match settings.tls {
                    SqlTls::Disable => None,
                    SqlTls::VerifyFull => Some(crate::tls::client_config(&Tls { ca: settings.ca.clone(), ..Tls::default() }, directory)?),
                };
                Ok(Self::Sql(Box::new(List { settings: settings.clone(), tls, read_at: None })))
            }
        }
    }

    /// Keys that have come, or that come within a time. Dropped while it waits, it loses nothing.
    pub(crate) async fn next(&mut self, wait: Duration) -> Result<Found, SourceError> {
        match self {
            Self::Topic(stream) => match tokio::time::timeout(wait, stream.next()).await {
                Err(_elapsed) => Ok(Found::default()),
                Ok(Some(Ok(TopicKeys { keys, position, caught_up }))) => {
                    let keys = keys.into_iter().map(|key| (key, Row::default())).collect();
                    Ok(Found { keys, position: Some(position), is_caught_up: caught_up })
                }
                Ok(Some(Err(error))) => Err(error),
                Ok(None) => Err(SourceError::new(ErrorKind::Unreachable, "reading keys from a topic").because("it ended")),
            },
            Self::Sql(list) => {
                let List { settings, tls, read_at } = list.as_mut();
                let every = Duration::from_secs_f64(settings.every_s.clamp(0.01, 86_400.0));
                let left = read_at.map_or(Duration::ZERO, |at| every.saturating_sub(at.elapsed()));
                if left > wait {
                    tokio::time::sleep(wait).await;
                    return Ok(Found::default());
                }
                tokio::time::sleep(left).await;
                let keys = read(settings, tls.clone()).await?;
                *read_at = Some(Instant::now());
                Ok(Found { keys, position: None, is_caught_up: true })
            }
        }
    }
}

/// Reads a list once.
async fn read(settings: &SqlKeys, tls: Option<rustls::ClientConfig>) -> Result<Vec<(String, Row)>, SourceError> {
    let doing = || format!("reading keys from {}:{}/{}", settings.host, settings.port, settings.database);
    let mut login = tokio_postgres::Config::new();
    login.host(&settings.host).port(settings.port).dbname(&settings.database).user(&settings.user).application_name("provincial-hub");
    login.connect_timeout(Duration::from_secs(15)).options("-c default_transaction_read_only=on");
    if !settings.password.reveal().is_empty() {
        login.password(settings.password.reveal());
    }
    let failed = |error: tokio_postgres::Error| classified(doing(), &error);
    let reading = async {
        let messages = match tls {
            None => {
                let (client, connection) = login.ssl_mode(SslMode::Disable).connect(NoTls).await.map_err(failed)?;
                asked(client, connection, &settings.query).await
            }
            Some(tls) => {
                let (client, connection) = login.ssl_mode(SslMode::Require).connect(MakeRustlsConnect::new(tls)).await.map_err(failed)?;
                asked(client, connection, &settings.query).await
            }
        };
        messages.map_err(failed)
    };
    let messages = tokio::time::timeout(QUERY, reading).await.map_err(|_| {
        SourceError::new(ErrorKind::Unreachable, doing()).because(format!("the list was not read within {} seconds", QUERY.as_secs()))
    })??;
    let mut keys = Vec::new();
    for message in &messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let Some(key) = row.get(0).filter(|key| !key.is_empty()) else { continue };
        let columns = row.columns().iter().enumerate();
        let further = columns.map(|(place, column)| (column.name().to_owned(), row.get(place).unwrap_or_default().to_owned()));
        keys.push((key.to_owned(), Arc::new(further.collect())));
    }
    Ok(keys)
}

/// Asks, and drives the connection meanwhile: it ends with the question.
async fn asked<S, T>(
    client: tokio_postgres::Client,
    connection: tokio_postgres::Connection<S, T>,
    query: &str,
) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let asking = client.simple_query(query);
    tokio::pin!(asking, connection);
    tokio::select! {
        answered = &mut asking => answered,
        ended = &mut connection => match ended {
            Err(error) => Err(error),
            Ok(()) => asking.await,
        },
    }
}

fn classified(doing: String, error: &tokio_postgres::Error) -> SourceError {
    let Some(said) = error.as_db_error() else {
        let words = std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        return SourceError::new(ErrorKind::Unreachable, doing).because(words);
    };
    // The message alone: details may quote rows.
    let words = format!("{} ({})", said.message(), said.code().code());
    match said.code().code() {
        code if code.starts_with("28") || code == "42501" => SourceError::new(ErrorKind::Denied, doing)
            .because(words)
            .advise("see whether the account of `keys.sql` is right, and may SELECT"),
        code if code.starts_with("42") || code.starts_with("3D") || code.starts_with("22") || code == "25006" => {
            SourceError::new(ErrorKind::BadConfig, doing).because(words).advise("mend `keys.sql.query`")
        }
        _ => SourceError::new(ErrorKind::Unreachable, doing).because(words),
    }
}
