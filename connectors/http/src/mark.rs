//! Watermarks: how far a list was read, as a number, a time or a text.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use serde_json::{Value, json};

use crate::config::Watermark;

/// How far a list was read. Those of one stream are of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// A number that grows.
    Number(i64),
    /// A time in microseconds since 1970, by the service's own clock where it writes no zone.
    Time(i64),
    /// A text that sorts as it is.
    Text(String),
}

impl Mark {
    /// A value of the watermark's column; `None` where it is not written in the format.
    pub(crate) fn parse(text: &str, format: &str) -> Option<Self> {
        match format {
            "number" => text.trim().parse().ok().map(Self::Number),
            "text" => Some(Self::Text(text.to_owned())),
            format => micros(text.trim(), format).map(Self::Time),
        }
    }

    /// Of the checkpoint.
    pub(crate) fn restore(value: &Value) -> Option<Self> {
        if let Some(number) = value.get("number").and_then(Value::as_i64) {
            return Some(Self::Number(number));
        }
        if let Some(micros) = value.get("time").and_then(Value::as_i64) {
            return Some(Self::Time(micros));
        }
        Some(Self::Text(value.get("text")?.as_str()?.to_owned()))
    }

    /// For the checkpoint.
    pub(crate) fn save(&self) -> Value {
        match self {
            Self::Number(number) => json!({"number": number}),
            Self::Time(micros) => json!({"time": micros}),
            Self::Text(text) => json!({"text": text}),
        }
    }

    /// What `{since}` is: the watermark less the overlap. A text has no overlap.
    pub(crate) fn since(&self, settings: &Watermark, utc_offset_h: i32) -> String {
        self.back(settings.overlap_s).written(settings, utc_offset_h)
    }

    fn back(&self, overlap_s: u64) -> Self {
        let overlap = i64::try_from(overlap_s).unwrap_or(i64::MAX);
        match self {
            Self::Number(number) => Self::Number(number.saturating_sub(overlap)),
            Self::Time(micros) => Self::Time(micros.saturating_sub(overlap.saturating_mul(1_000_000))),
            Self::Text(text) => Self::Text(text.clone()),
        }
    }

    /// As the service wants to be told it.
    pub(crate) fn written(&self, settings: &Watermark, utc_offset_h: i32) -> String {
        let micros = match self {
            Self::Number(number) => return number.to_string(),
            Self::Text(text) => return text.clone(),
            Self::Time(micros) => *micros,
        };
        let format = settings.send_format.as_deref().unwrap_or(&settings.format);
        let utc = if has_zone(&settings.format) { micros } else { micros.saturating_sub(hours(utc_offset_h)) };
        let (Some(time), Some(zone)) = (DateTime::from_timestamp_micros(utc), FixedOffset::east_opt(utc_offset_h.saturating_mul(3_600)))
        else {
            return String::new();
        };
        time.with_timezone(&zone).format(format).to_string()
    }
}

/// Whether chrono can use a format.
pub(crate) fn is_format(format: &str) -> bool {
    use chrono::format::{Item, StrftimeItems};
    matches!(format, "number" | "text") || (format.contains('%') && !StrftimeItems::new(format).any(|item| matches!(item, Item::Error)))
}

fn has_zone(format: &str) -> bool {
    ["%z", "%:z", "%#z", "%+", "%Z"].iter().any(|zone| format.contains(zone))
}

fn micros(text: &str, format: &str) -> Option<i64> {
    if has_zone(format) {
        return DateTime::parse_from_str(text, format).ok().map(|time| time.timestamp_micros());
    }
    NaiveDateTime::parse_from_str(text, format)
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, format).ok()?.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc().timestamp_micros())
}

/// The time of a look by the hub's clock, as a watermark of the stream.
pub(crate) fn clock(micros: i64, settings: &Watermark, utc_offset_h: i32) -> Mark {
    let shift = if has_zone(&settings.format) { 0 } else { hours(utc_offset_h) };
    Mark::Time(micros.saturating_add(shift))
}

/// The format in which `{since}` and `{until}` are told, where that is a time.
pub(crate) fn time_format(settings: &Watermark) -> Option<&str> {
    Some(settings.send_format.as_deref().unwrap_or(&settings.format)).filter(|format| format.contains('%'))
}

fn hours(hours: i32) -> i64 {
    i64::from(hours) * 3_600_000_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn settings(format: &str, overlap_s: u64) -> Watermark {
        serde_json::from_value(json!({"field": "f", "format": format, "overlap_s": overlap_s})).unwrap()
    }

    #[test]
    fn a_time_keeps_its_form_and_goes_back_by_the_overlap() {
        for (format, text, since) in [
            ("%d/%m/%Y %H:%M:%S", "26/11/2026 00:00:30", "25/11/2026 23:59:30"),
            ("%Y-%m-%dT%H:%M:%S%.f", "2026-11-26T10:00:00.5", "2026-11-26T09:59:00.500"),
            ("%Y-%m-%dT%H:%M:%S%z", "2026-11-26T10:00:00+0700", "2026-11-26T09:59:00+0700"),
            ("%Y%m%d", "20261126", "20261125"),
            ("number", "1000", "940"),
            ("text", "0x07D2", "0x07D2"),
        ] {
            let mark = Mark::parse(text, format).unwrap();
            assert_eq!(mark.since(&settings(format, 60), 7), since, "{format}");
            assert_eq!(Mark::restore(&mark.save()), Some(mark));
        }
        assert_eq!(Mark::parse("hôm qua", "%d/%m/%Y"), None);
    }

    #[test]
    fn a_zone_is_reckoned_with_where_only_one_side_writes_it() {
        for (format, sends, text, since) in [
            ("%Y-%m-%dT%H:%M:%S%:z", "%d/%m/%Y %H:%M", "2026-11-26T03:00:00+00:00", "26/11/2026 10:00"),
            ("%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S%:z", "26/11/2026 10:00", "2026-11-26T10:00:00+07:00"),
        ] {
            let settings: Watermark = serde_json::from_value(json!({"format": format, "send_format": sends})).unwrap();
            let mark = Mark::parse(text, format).unwrap();
            assert_eq!(mark.since(&settings, 7), since);
            let utc = DateTime::parse_from_rfc3339("2026-11-26T03:00:00Z").unwrap().timestamp_micros();
            assert_eq!(clock(utc, &settings, 7), mark, "the hub's clock is in the same frame");
        }
    }

    #[test]
    fn times_are_compared_as_times_and_numbers_as_numbers() {
        let later = |a, b, format| Mark::parse(a, format).unwrap() > Mark::parse(b, format).unwrap();
        assert!(later("01/12/2026", "30/11/2026", "%d/%m/%Y"));
        assert!(later("10", "9", "number"));
        assert!(is_format("%d/%m/%Y") && !is_format("%Q") && !is_format("yyyy-MM-dd"));
    }
}
