//! What a child's end means: the kind of error, its words without secrets, and what to do next.

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, SourceError};

use crate::child::Outcome;
use crate::limits::Exceeded;
use crate::message::Trouble;
use crate::scrub::{Scrubber, before_rows};

/// Words of sources that refuse a login or a right.
const DENIED: &[&str] = &[
    "authentication failed",
    "password authentication",
    "access denied",
    "permission denied",
    "unauthorized",
    "forbidden",
    "401 client error",
    "403 client error",
    "status code 401",
    "status code 403",
    "status code: 401",
    "status code: 403",
    "http 401",
    "http 403",
    "invalid credentials",
    "invalid api key",
    "invalid_grant",
    "invalid_client",
    "not authorized",
    "no password supplied",
    "login failed",
    "logon denied",
];
/// Words of sources that ask for less.
const THROTTLED: &[&str] =
    &["429 client error", "status code 429", "status code: 429", "http 429", "too many requests", "rate limit", "throttl"];
/// Words of links that broke.
const UNREACHABLE: &[&str] = &[
    "connection refused",
    "connection reset",
    "connection aborted",
    "connection closed",
    "connection timed out",
    "remote end closed connection",
    "could not connect",
    "can't connect",
    "cannot connect",
    "failed to establish a new connection",
    "server closed the connection",
    "terminating connection",
    "the database system is",
    "max retries exceeded",
    "name or service not known",
    "temporary failure in name resolution",
    "could not translate host name",
    "no route to host",
    "network is unreachable",
    "timed out",
    "timeout",
    "502 server error",
    "503 server error",
    "504 server error",
    "broken pipe",
    "lost connection",
    "server has gone away",
];

/// What Airbyte's kit says where a source has no words of its own.
const NOTHING_SAID: &str = "Something went wrong in the connector";

/// The kind that the words of a source speak of.
pub(crate) fn kind_of(words: &str) -> Option<ErrorKind> {
    let words = words.to_lowercase();
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    // A refused login is often told behind the words of a link.
    let kinds = [(DENIED, ErrorKind::Denied), (THROTTLED, ErrorKind::Throttled), (UNREACHABLE, ErrorKind::Unreachable)];
    kinds.into_iter().find(|(list, _)| has(list)).map(|(_, kind)| kind)
}

/// What mends an error of this kind.
pub(crate) fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Denied => Some("mend the account, its password or its rights in `config`, `secrets` or `env`, or at the source"),
        ErrorKind::BadConfig => Some("mend `config` of this system; `hub check` asks the source again"),
        ErrorKind::Defect => Some("look at the words of the source, and run its command by hand with the same configuration"),
        ErrorKind::Unreachable
        | ErrorKind::Throttled
        | ErrorKind::NotPrepared
        | ErrorKind::StreamBroken
        | ErrorKind::PositionLost
        | ErrorKind::Mismatch => None,
    }
}

/// The error of a child that did not do what it was asked for. `shares`: other streams are read beside the one that is to blame.
pub(crate) fn failed(doing: &str, outcome: &Outcome, troubles: &[Trouble], scrubber: &Scrubber, shares: bool) -> SourceError {
    if let Some(exceeded) = outcome.exceeded {
        return over(doing, exceeded);
    }
    if outcome.too_long {
        return SourceError::new(ErrorKind::NotPrepared, doing)
            .because("it wrote a line that is longer than `line_mib`, and what it holds is not known")
            .advise("raise `line_mib` above the largest record, or leave the column that is so large out at the source");
    }
    let words: Vec<String> = outcome.last_words.iter().map(|line| scrubber.scrub(line)).collect();
    let Some(trouble) = troubles.first() else {
        let raw: String = outcome.last_words.iter().flat_map(|line| [before_rows(line), "\n"]).collect();
        // Whatever it was, another try costs nothing; a person is told by the metric and the log.
        let kind = kind_of(&raw).unwrap_or(ErrorKind::Unreachable);
        let said = if words.is_empty() { "it said nothing".to_owned() } else { format!("it said: {}", words.join(" | ")) };
        let error = SourceError::new(kind, doing).because(format!("{}; {said}", ended(outcome)));
        return match advice(kind) {
            Some(advice) => error.advise(advice),
            None => error,
        };
    };
    // What it says to developers holds answers with their rows: its kind is told by it, and it is shown where nothing else is said.
    let internal = before_rows(trouble.internal_message.as_deref().unwrap_or_default());
    let raw = format!("{} {internal}", before_rows(&trouble.message));
    let declared = match trouble.failure_type.as_deref() {
        Some("config_error") => ErrorKind::BadConfig,
        Some("transient_error") => ErrorKind::Unreachable,
        _ => ErrorKind::Defect,
    };
    let mut kind = kind_of(&raw).unwrap_or(declared);
    let stream = trouble.stream_descriptor.as_ref().and_then(|stream| StreamName::new(&stream.full()).ok());
    if shares && stream.is_some() && matches!(kind, ErrorKind::BadConfig | ErrorKind::Defect) {
        // The others can go on without it.
        kind = ErrorKind::StreamBroken;
    }
    let mut said = scrubber.scrub(&trouble.message);
    if trouble.message.starts_with(NOTHING_SAID) {
        said = format!("the source does not say what went wrong: {}", scrubber.scrub(internal.lines().next().unwrap_or_default()));
    }
    let mut error = SourceError::new(kind, doing).because(said);
    if let Some(advice) = advice(kind) {
        error = error.advise(advice);
    }
    match stream {
        Some(stream) if kind == ErrorKind::StreamBroken => error.of(stream),
        _ => error,
    }
}

fn over(doing: &str, exceeded: Exceeded) -> SourceError {
    let (kind, why, advice) = match exceeded {
        Exceeded::Memory(mib) => (
            ErrorKind::NotPrepared,
            format!("it held {mib} MiB of memory, more than `memory_mib`, and was ended"),
            "raise `memory_mib` where the machine has it, or have the source read smaller pages",
        ),
        Exceeded::Silent => (
            ErrorKind::Unreachable,
            "it said nothing for `silent_for_s`, and was ended".to_owned(),
            "look whether the source answers; raise `silent_for_s` where it is quiet for so long by its nature",
        ),
        Exceeded::Late => (
            ErrorKind::Unreachable,
            "it took longer than it may, and was ended".to_owned(),
            "raise `run_within_s` (`ask_within_s` for spec, check and discover); a source that keeps state goes on where it was",
        ),
    };
    SourceError::new(kind, doing).because(why).advise(advice)
}

fn ended(outcome: &Outcome) -> String {
    use std::os::unix::process::ExitStatusExt;
    match outcome.status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "it ended without what it was asked for".to_owned(),
            (Some(code), _) => format!("it ended with exit code {code}"),
            (None, Some(9)) => "it was killed, perhaps since the machine was out of memory".to_owned(),
            (None, signal) => format!("it was ended by signal {}", signal.unwrap_or(0)),
        },
        None => "it closed its output and did not end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(words: &str) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let status = Some(std::process::ExitStatus::from_raw(256));
        Outcome { status, exceeded: None, too_long: false, last_words: words.lines().map(str::to_owned).collect() }
    }

    fn trouble(kind: &str, message: &str) -> Trouble {
        Trouble { message: message.to_owned(), failure_type: Some(kind.to_owned()), ..Trouble::default() }
    }

    #[test]
    fn the_words_of_a_tap_say_what_kind_it_is() {
        for (words, kind) in [
            ("FATAL: password authentication failed for user \"hub\"", ErrorKind::Denied),
            ("psycopg2.OperationalError: connection to server at \"127.0.0.1\", port 1 failed: Connection refused", ErrorKind::Unreachable),
            ("429 Client Error: Too Many Requests for url", ErrorKind::Throttled),
            ("KeyError: 'x'", ErrorKind::Unreachable),
        ] {
            assert_eq!(failed("reading", &outcome(words), &[], &Scrubber::default(), false).kind(), kind, "{words}");
        }
    }

    #[test]
    fn what_an_airbyte_source_declares_counts_unless_its_words_say_better() {
        for (declared, words, kind) in [
            ("config_error", "start_date is not a date", ErrorKind::BadConfig),
            ("config_error", "Invalid API key", ErrorKind::Denied),
            ("transient_error", "try later", ErrorKind::Unreachable),
            ("system_error", "'NoneType' object is not iterable", ErrorKind::Defect),
            ("system_error", "Max retries exceeded with url", ErrorKind::Unreachable),
        ] {
            let error = failed("reading", &outcome("x"), &[trouble(declared, words)], &Scrubber::default(), true);
            assert_eq!(error.kind(), kind, "{words}");
        }
    }

    #[test]
    fn one_stream_that_fails_is_named_so_that_the_others_go_on() {
        let mut trouble = trouble("system_error", "unexpected answer");
        trouble.stream_descriptor = Some(crate::message::Descriptor { name: "a".to_owned(), namespace: Some("n".to_owned()) });
        let error = failed("reading", &outcome(""), &[trouble.clone()], &Scrubber::default(), true);
        assert_eq!((error.kind(), error.stream().map(StreamName::as_str)), (ErrorKind::StreamBroken, Some("n.a")));
        assert_eq!(failed("reading", &outcome(""), &[trouble], &Scrubber::default(), false).kind(), ErrorKind::Defect);
    }
}
