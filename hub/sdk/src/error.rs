//! Errors of sources: classified by the connector, decided upon by the engine.

use std::error::Error;
use std::fmt;

use hub_model::StreamName;

/// What kind of trouble it is. The engine matches on all of them, without a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The source does not answer, or the link broke. Comes right by itself.
    Unreachable,
    /// The source asks for less. Comes right by itself.
    Throttled,
    /// Login or a right is refused.
    Denied,
    /// The configuration cannot work as it is.
    BadConfig,
    /// The source is not set up (`wal_level`, publication …).
    NotPrepared,
    /// A stream vanished or changed so that it cannot go on; the others can. Named by [`SourceError::of`], it is left out of
    /// the next capture, and asked for again once a probe of it alone finds nothing fatal.
    StreamBroken,
    /// The source no longer has what comes after the checkpoint; only a new snapshot mends it.
    PositionLost,
    /// The source is another one than the checkpoint was taken from.
    Mismatch,
    /// The hub's own mistake.
    Defect,
}

/// An error of a source: what was being done, its kind, its cause and what to do next.
#[derive(Debug)]
pub struct SourceError {
    kind: ErrorKind,
    doing: String,
    advice: Option<String>,
    stream: Option<StreamName>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// An error without a cause of its own. `doing` reads after "failed while": `reading slot hub_mot_cua`.
    #[must_use]
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), advice: None, stream: None, cause: None }
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says what to do next, such as the SQL that mends it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Names the one stream that is concerned.
    #[must_use]
    pub fn of(mut self, stream: StreamName) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The one stream that is concerned.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamName> {
        self.stream.as_ref()
    }

    /// The whole chain in one line, with the advice: for status pages and terminals.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.chain();
        if let Some(advice) = &self.advice {
            text.push_str("; ");
            text.push_str(advice);
        }
        text
    }

    /// The whole chain in one line without the advice, for where that stands by itself.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            let part = next.to_string();
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = next.source();
        }
        text
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stream {
            Some(stream) => write!(f, "{} (stream {stream})", self.doing),
            None => f.write_str(&self.doing),
        }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}
