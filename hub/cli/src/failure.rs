//! How a command ends when it cannot do what was asked: words for people, a number for scripts.

use std::fmt::Display;

use crate::config::Fault;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration has faults; none here where they were printed already.
    Config(Vec<Fault>),
    /// What was compared or checked is not as it should be; the details were printed already.
    Differs(String),
    /// Something outside (Kafka, a source, the registry, the running hub) could not be used.
    Unavailable(String),
    /// What was asked for makes no sense here.
    Usage(String),
}

impl Failure {
    /// Exit code: wrong use.
    pub(crate) const USAGE: u8 = 2;
    /// Exit code: an internal fault.
    pub(crate) const INTERNAL: u8 = 70;

    /// Something outside could not be used: what was being done, and the cause.
    pub(crate) fn unavailable(doing: impl Display, cause: impl Display) -> Self {
        Self::Unavailable(format!("{doing}: {cause}"))
    }

    /// The exit code: 1 differs, 2 usage, 3 configuration, 4 unavailable.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Differs(_) => 1,
            Self::Usage(_) => Self::USAGE,
            Self::Config(_) => 3,
            Self::Unavailable(_) => 4,
        }
    }

    /// Says it on standard error.
    pub(crate) fn print(&self) {
        match self {
            Self::Config(faults) if faults.is_empty() => {}
            Self::Config(faults) => {
                for fault in faults {
                    eprintln!("error: {fault}");
                }
                let count = faults.len();
                eprintln!("{count} fault{} in the configuration", if count == 1 { "" } else { "s" });
            }
            Self::Differs(text) | Self::Unavailable(text) | Self::Usage(text) => eprintln!("error: {text}"),
        }
    }
}
