//! Tables for terminals, and JSON lines for machines.

use std::io::{IsTerminal, Write};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table, TableComponent};

/// Columns of a table whose width no terminal decides.
const WIDTH: u16 = 160;

/// An empty table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table
}

/// Prints a value as one line of JSON. A closed pipe (`| head`) ends quietly.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        print_line(&text);
    }
}

/// Prints a line. A closed pipe (`| head`) ends quietly.
pub(crate) fn print_line(text: &str) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Microseconds since 1970 as people read a time, in UTC.
pub(crate) fn instant(micros: i64) -> String {
    timestamp_us_to_datetime(micros).map_or_else(|| micros.to_string(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// `12,345,678`: long numbers are read in groups.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a text means, where a terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// New, or as it should be.
    Good,
    /// Gone, or wrong.
    Bad,
    /// Of less weight.
    Quiet,
}

/// The text in its colour; as it is where the output is no terminal or `NO_COLOR` is set.
pub(crate) fn toned(text: &str, tone: Tone) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    let colour = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Quiet => "2",
    };
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_people_read_them() {
        assert_eq!([0, 12, 123, 1_234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
        assert_eq!(instant(1_795_517_121_500_000), "2026-11-24 10:45:21Z");
    }
}
