//! The registry itself: answers from what it has read, and writes what was decided.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use super::follower::Follower;
use super::record::{Record, Reference};
use super::state::{Identity, Show, State, Version};
use super::topic::{self, StartError};
use super::writer::{self, WriteError, Writer};
use crate::compat::{Earlier, Level};
use crate::schema::Schema;

/// How long starting may take.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a write may take, unless [`Registry::write_within`] says otherwise.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A schema registry whose only storage is a compacted Kafka topic. Cheap to clone; all clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    write_within: Duration,
}

struct Inner {
    follower: Follower,
    settings: ClientConfig,
    topic: Arc<str>,
    cluster: String,
    /// One write at a time; empty while this registry has not got the right to write.
    writer: Mutex<Option<Writer>>,
}

/// A schema that is offered for registration, look-up or judgement.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Offer {
    /// The text of the schema.
    #[serde(default)]
    pub schema: String,
    /// `AVRO`, or absent, which means the same. No other type is kept.
    #[serde(rename = "schemaType", default)]
    pub schema_type: Option<String>,
    /// The schemas that it refers to.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// The id to register it under; only in mode IMPORT.
    #[serde(default)]
    pub id: Option<i64>,
    /// The version to register it as; only in mode IMPORT.
    #[serde(default)]
    pub version: Option<i64>,
}

/// Whether a schema's form is evened out before it is compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// Compared as written, but for whitespace and the order of Avro's own attributes.
    No,
    /// Compared with names in full and everything sorted whose order means nothing.
    Yes,
}

/// A version of a subject, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The subject.
    pub subject: String,
    /// Its version.
    pub version: u32,
    /// The rest.
    pub entry: Version,
}

/// Which version of a subject is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last one that is not deleted.
    Latest,
    /// This one.
    Number(u32),
}

impl std::str::FromStr for Which {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        if text.eq_ignore_ascii_case("latest") || text == "-1" {
            return Ok(Self::Latest);
        }
        match text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(ApiError::invalid_version(text)),
        }
    }
}

impl Offer {
    /// A schema that refers to no other.
    #[must_use]
    pub fn avro(schema: impl Into<String>) -> Self {
        Self { schema: schema.into(), ..Self::default() }
    }
}

/// What a decision comes to.
pub(super) enum Decision<T> {
    /// Nothing is to be written.
    Done(T),
    /// These records, all or none.
    Write(Vec<Record>, T),
}

/// An offer that was understood.
pub(super) struct Understood {
    pub(super) identity: Identity,
    pub(super) schema: Schema,
    normalize: Normalize,
}

impl Registry {
    /// Creates the topic where it is missing, reads it to its end, and goes on following it.
    ///
    /// # Errors
    /// [`StartError`] where Kafka cannot be used now ([`StartError::is_retriable`]) or the topic cannot hold schemas.
    pub async fn start(client: ClientConfig, topic: &str, replication: u16) -> Result<Self, StartError> {
        Self::start_within(client, topic, replication, START_WITHIN).await
    }

    /// As [`Registry::start`], with a limit for each of its steps.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub async fn start_within(client: ClientConfig, topic: &str, replication: u16, limit: Duration) -> Result<Self, StartError> {
        topic::ensure(&client, topic, replication, limit).await?;
        let settings = writer::settings(&client, topic)?;
        let follower = Follower::start(&client, topic, limit).await?;
        let cluster = cluster_id(client).await;
        let inner = Inner { follower, settings, topic: topic.into(), cluster, writer: Mutex::new(None) };
        Ok(Self { inner: Arc::new(inner), write_within: WRITE_WITHIN })
    }

    /// The same registry with another limit for the time that a write may take.
    #[must_use]
    pub fn write_within(mut self, limit: Duration) -> Self {
        self.write_within = limit;
        self
    }

    /// The id of the Kafka cluster that holds the topic; empty where Kafka did not say.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.inner.cluster
    }

    /// Registers a schema as the next version of a subject, or finds it there, and answers its id.
    ///
    /// # Errors
    /// 409 where it does not fit the subject's earlier versions, 42201 where it is invalid, 42205 where the mode forbids it,
    /// 50001 to 50003 where Kafka does not take it.
    pub async fn register(&self, subject: &str, offer: &Offer, normalize: Normalize) -> Result<u32, ApiError> {
        check_subject(subject)?;
        self.write("registering a schema", |state| super::decide::register(state, subject, offer, normalize)).await
    }

    /// Finds a schema among a subject's versions.
    ///
    /// # Errors
    /// 40401 without the subject, 40403 without the schema in it, 42201 where it is invalid.
    pub fn lookup(&self, subject: &str, offer: &Offer, normalize: Normalize, deleted: bool) -> Result<Registered, ApiError> {
        let state = self.state();
        let show = if deleted { Show::All } else { Show::Live };
        let offered = understand(&state, offer, normalize, Show::All)?;
        match find(&state, subject, &offered, show) {
            Some((version, entry)) => Ok(Registered { subject: subject.to_owned(), version, entry: entry.clone() }),
            None if !state.has_subject(subject, show) => Err(ApiError::subject_not_found(subject)),
            None => Err(ApiError::schema_not_found()),
        }
    }

    /// Judges a schema against the versions of a subject at the subject's level; answers what does not fit.
    ///
    /// # Errors
    /// 42201 where it is invalid; with a version, 40401 and 40402 where there is none such.
    pub fn check(&self, subject: &str, offer: &Offer, against: Option<Which>) -> Result<Vec<String>, ApiError> {
        let state = self.state();
        let offered = understand(&state, offer, Normalize::No, Show::Live)?;
        let level = state.level_in_force(subject);
        let Some(which) = against else { return judge(&state, subject, level, &offered.schema) };
        let (version, entry) = match which {
            Which::Latest => match state.latest(subject) {
                Some(found) => found,
                // Anything may be a subject's first version.
                None => return Ok(Vec::new()),
            },
            Which::Number(number) => (number, version(&state, subject, number, Show::Live)?),
        };
        let old = parse(&state, entry)?;
        Ok(level.judge_one(&offered.schema, &Earlier { version, text: &entry.schema, schema: &old }))
    }

    /// The version of a subject.
    ///
    /// # Errors
    /// 40401 without the subject, 40402 without the version.
    pub fn version(&self, subject: &str, which: Which, deleted: bool) -> Result<Registered, ApiError> {
        let state = self.state();
        let show = if deleted { Show::All } else { Show::Live };
        let (version, entry) = match which {
            Which::Number(number) => (number, version(&state, subject, number, show)?),
            Which::Latest => state.latest(subject).ok_or_else(|| {
                if state.has_subject(subject, show) { ApiError::version_not_found(-1) } else { ApiError::subject_not_found(subject) }
            })?,
        };
        Ok(Registered { subject: subject.to_owned(), version, entry: entry.clone() })
    }

    /// The latest version of a subject that is not deleted.
    ///
    /// # Errors
    /// 40401 without the subject.
    pub fn latest(&self, subject: &str) -> Result<Registered, ApiError> {
        self.version(subject, Which::Latest, false)
    }

    /// Text and references of the schema with an id, deleted or not.
    ///
    /// # Errors
    /// 40403 where no schema has it.
    pub fn by_id(&self, id: u32) -> Result<(String, Vec<Reference>), ApiError> {
        let state = self.state();
        let found = state.by_id(id).ok_or_else(|| ApiError::id_not_found(id))?;
        Ok((found.schema.clone(), found.references.clone()))
    }

    pub(super) fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.inner.follower.state()
    }

    /// Decides on the present state and writes what was decided; decides anew where another registry was quicker.
    pub(super) async fn write<T>(&self, doing: &str, decide: impl Fn(&State) -> Result<Decision<T>, ApiError>) -> Result<T, ApiError> {
        // What needs no write, such as a schema that is there already, does not wait for Kafka.
        if let Ok(Decision::Done(answer)) = decide(&self.state()) {
            return Ok(answer);
        }
        let deadline = Instant::now() + self.write_within;
        let Ok(mut slot) = tokio::time::timeout_at(deadline, self.inner.writer.lock()).await else {
            return Err(unavailable(doing, "other writes are waiting for Kafka"));
        };
        for attempt in 0.. {
            match self.attempt(&mut slot, deadline, &decide).await {
                Ok(outcome) => return outcome,
                Err(WriteError::Superseded(error)) => tracing::debug!(%error, attempt, "schemas topic taken over; deciding anew"),
                Err(error) => return Err(answer(doing, error)),
            }
            let wait = pause(attempt);
            if Instant::now() + wait >= deadline {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        Err(unavailable(doing, "other registries write to the topic all the time"))
    }

    async fn attempt<T>(
        &self,
        slot: &mut Option<Writer>,
        deadline: Instant,
        decide: impl Fn(&State) -> Result<Decision<T>, ApiError>,
    ) -> Result<Result<T, ApiError>, WriteError> {
        let Inner { follower, settings, topic, .. } = self.inner.as_ref();
        // It goes back only when its transaction has ended well: a caller may give up at any point of the way.
        let writer = match slot.take() {
            Some(writer) => writer,
            None => Writer::take_over(settings, Arc::clone(topic), follower, deadline).await?,
        };
        let decision = decide(&follower.state());
        let (records, outcome) = match decision {
            Ok(Decision::Write(records, answer)) => (records, Ok(answer)),
            Ok(Decision::Done(answer)) => (Vec::new(), Ok(answer)),
            Err(refused) => (Vec::new(), Err(refused)),
        };
        if !records.is_empty()
            && let Err(error) = writer.write(records, follower, deadline).await
        {
            writer.retire();
            return Err(error);
        }
        *slot = Some(writer);
        Ok(outcome)
    }
}

/// Reads an offered schema.
pub(super) fn understand(state: &State, offer: &Offer, normalize: Normalize, show: Show) -> Result<Understood, ApiError> {
    if let Some(other) = offer.schema_type.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("AVRO")) {
        return Err(ApiError::invalid_schema(format!("Invalid schema type {other}; this registry keeps AVRO only")));
    }
    if offer.schema.trim().is_empty() {
        return Err(ApiError::new(42201, "Empty schema"));
    }
    let mut references = offer.references.clone();
    for reference in references.iter_mut().filter(|reference| reference.version == -1) {
        let latest = state.latest(&reference.subject).and_then(|(number, _)| i32::try_from(number).ok());
        reference.version = latest.unwrap_or(-1);
    }
    if normalize == Normalize::Yes {
        references.sort_unstable();
    }
    let mut identity = Identity { schema: offer.schema.clone(), references };
    let schema = state.parse(&identity, show)?;
    identity.schema = if normalize == Normalize::Yes { schema.normal() } else { schema.canonical() };
    Ok(Understood { identity, schema, normalize })
}

/// The version of a subject that is the same schema.
pub(super) fn find<'a>(state: &'a State, subject: &str, offered: &Understood, show: Show) -> Option<(u32, &'a Version)> {
    let Identity { schema, references } = &offered.identity;
    let exact = state.listed(subject, show).rfind(|(_, entry)| entry.schema == *schema && entry.references == *references);
    if exact.is_some() || offered.normalize == Normalize::No {
        return exact;
    }
    // A version that was registered as written is the same schema if its normal form is.
    state.listed(subject, show).rfind(|(_, entry)| {
        let mut held = entry.references.clone();
        held.sort_unstable();
        held == *references && parse(state, entry).is_ok_and(|found| found.normal() == *schema)
    })
}

/// Judges a schema against a subject's live versions.
pub(super) fn judge(state: &State, subject: &str, level: Level, new: &Schema) -> Result<Vec<String>, ApiError> {
    if level == Level::None {
        return Ok(Vec::new());
    }
    let versions: Vec<(u32, &Version)> = state.listed(subject, Show::Live).collect();
    let parsed = versions.iter().map(|(_, entry)| parse(state, entry)).collect::<Result<Vec<Schema>, _>>()?;
    let earlier: Vec<Earlier<'_>> =
        versions.iter().zip(&parsed).map(|((version, entry), schema)| Earlier { version: *version, text: &entry.schema, schema }).collect();
    Ok(level.judge(new, &earlier))
}

pub(super) fn version<'a>(state: &'a State, subject: &str, number: u32, show: Show) -> Result<&'a Version, ApiError> {
    state.version(subject, number, show).ok_or_else(|| {
        if state.has_subject(subject, show) { ApiError::version_not_found(number) } else { ApiError::subject_not_found(subject) }
    })
}

fn parse(state: &State, entry: &Version) -> Result<Schema, ApiError> {
    state.parse(&Identity { schema: entry.schema.clone(), references: entry.references.clone() }, Show::All)
}

pub(super) fn check_subject(subject: &str) -> Result<(), ApiError> {
    if subject.is_empty() || subject.chars().any(char::is_control) {
        return Err(ApiError::invalid_subject(subject));
    }
    Ok(())
}

/// A wait that grows, and differs between registries that were superseded at the same moment.
fn pause(attempt: u32) -> Duration {
    let most = 20_u64 << attempt.min(5);
    Duration::from_millis(most / 2 + std::hash::RandomState::new().hash_one(attempt) % most)
}

fn unavailable(doing: &str, why: &str) -> ApiError {
    ApiError::new(50003, format!("Error while {doing}: {why}; nothing was written, try again"))
}

fn answer(doing: &str, error: WriteError) -> ApiError {
    match error {
        WriteError::Away(why) => unavailable(doing, &format!("Kafka, which holds the schemas, cannot be used now ({why})")),
        WriteError::Superseded(why) => unavailable(doing, &format!("another registry took over ({why})")),
        WriteError::Unknown(why) => {
            let message = format!("Error while {doing}: {why}; it may have been written, so look before trying again");
            ApiError::new(50002, message)
        }
        WriteError::TooLarge => ApiError::new(42209, "Schema is too large for a record of the schemas topic (max.message.bytes)"),
        WriteError::Refused(error) => {
            tracing::error!(%error, "kafka refuses a write to the schemas topic");
            ApiError::new(50001, format!("Error while {doing}: Kafka refuses the write ({error}); see its rights and settings"))
        }
    }
}

/// Asked once, and only for the clients that show it: without it everything works.
async fn cluster_id(client: ClientConfig) -> String {
    let ask = move || client.create::<BaseConsumer>().ok()?.client().fetch_cluster_id(Duration::from_secs(5));
    tokio::task::spawn_blocking(ask).await.ok().flatten().unwrap_or_default()
}
