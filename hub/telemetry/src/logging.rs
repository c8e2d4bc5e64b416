//! Sets up the log of the process: to stderr, for people or for machines. Only the `hub` binary calls it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One readable line per event, coloured on a terminal.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Libraries that are never heard.
const SILENT: &str = "odbc_api=off";

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error("could not read the log filter {filter:?}: write it like `info` or `warn,hub_engine=debug`")]
    Filter {
        /// The text as given.
        filter: String,
        /// Why.
        #[source]
        cause: tracing_subscriber::filter::ParseError,
    },
    /// A log is set up already.
    #[error("could not install the log: the process has one already")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the log. `filter` is in tracing's own form: `info`, or `warn,hub_engine=debug`.
///
/// # Errors
/// [`LoggingError`] for a filter that does not parse, or a second call.
pub fn init(format: Format, filter: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(whole(filter)).map_err(|cause| LoggingError::Filter { filter: filter.to_owned(), cause })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    }
    .map_err(LoggingError::Installed)
}

/// The filter with those libraries silent that log what a driver says: it may quote values of rows, and errors tell it anyway.
fn whole(filter: &str) -> String {
    match filter {
        "" => SILENT.to_owned(),
        filter => format!("{SILENT},{filter}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_says_is_not_logged_whatever_the_filter() {
        for filter in ["", "debug", "hub=trace,warn"] {
            let whole = EnvFilter::new(whole(filter)).to_string();
            assert!(whole.contains(SILENT), "{whole}");
        }
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let refused = init(Format::Json, "hub=loudly").map_err(|error| error.to_string());
        assert_eq!(
            refused,
            Err(r#"could not read the log filter "hub=loudly": write it like `info` or `warn,hub_engine=debug`"#.to_owned())
        );
    }
}
