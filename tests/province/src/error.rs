//! What can go wrong with the source system, with what was being done.

/// A failure of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum ProvinceError {
    /// The database refused or could not be reached.
    #[error("{doing}")]
    Postgres {
        /// What was being done, `copying rows into public.ho_so`.
        doing: String,
        /// The database's own words.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database has not been filled by this program.
    #[error("the database has no rows of this simulator: run `province fill` first")]
    NotFilled,
    /// The readers of the replication slots are too slow, or there are none.
    #[error("{slots} replication slots, {behind} bytes of log not confirmed in time: is `hub run` at work? its log tells")]
    NotConfirmed {
        /// Slots of the database.
        slots: u64,
        /// Bytes that the slowest has not confirmed.
        behind: u64,
    },
    /// Kafka could not be read.
    #[error("reading topic {topic}")]
    Kafka {
        /// The topic.
        topic: String,
        /// The client's own words.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// The brokers sent nothing for too long.
    #[error("reading topic {topic}: the brokers are silent; `make status` tells whether Kafka is up")]
    Silent {
        /// The topic.
        topic: String,
    },
    /// The hub has not made this topic.
    #[error("there is no topic {topic}: has `hub run` begun with this system?")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A subscriber could not decode a record.
    #[error("a record of topic {topic} cannot be decoded: {why}")]
    BrokenRecord {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        why: String,
    },
    /// The schema registry gave no schema.
    #[error("asking the registry at {registry} for schema {id}: {why}")]
    Registry {
        /// Its address.
        registry: String,
        /// The schema's id.
        id: u32,
        /// What it said.
        why: String,
    },
    /// The connection string names no database.
    #[error("the connection string names no database: add dbname=mot_cua")]
    NoDatabase,
    /// A file that was needed could not be read.
    #[error("reading {path}")]
    File {
        /// The file.
        path: String,
        /// The system's own words.
        #[source]
        source: std::io::Error,
    },
}

/// Adds what was being done to a database error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, ProvinceError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: impl Into<String>) -> Result<T, ProvinceError> {
        self.map_err(|source| ProvinceError::Postgres { doing: what.into(), source })
    }
}
