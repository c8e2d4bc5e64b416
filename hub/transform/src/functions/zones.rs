//! Local wall-clock times to instants, by a table of a zone's offsets.
//!
//! A zone is asked once for its offset at every week from 1900 to 2100; runs of weeks with one offset make a segment. A batch that
//! lies in one segment (any modern Vietnamese time does) is shifted by one vectorised subtraction.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use arrow::compute::{CastOptions, cast_with_options, max, min};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

const WEEK: i64 = 7 * 86_400 * 1_000_000;
/// 1900-01-01T00:00 and 2100-01-01T00:00 in microseconds.
const FROM: i64 = -25_567 * 86_400 * 1_000_000;
const TO: i64 = 47_482 * 86_400 * 1_000_000;

/// A time zone with its offsets.
pub(crate) struct Zone {
    name: Arc<str>,
    segments: Vec<Segment>,
}

/// Local times from `from` (inclusive) to `to` (exclusive) with one offset to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    from: i64,
    to: i64,
    offset: i64,
}

impl Zone {
    /// Looks a zone up: an IANA name or an offset such as `+07:00`.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let weeks: Vec<i64> = (0..=(TO - FROM) / WEEK).map(|week| FROM + week * WEEK).collect();
        let local: ArrayRef = Arc::new(TimestampMicrosecondArray::from(weeks.clone()));
        let instants = to_instants(&local, name)?;
        let mut segments: Vec<Segment> = Vec::new();
        for (week, pair) in weeks.windows(2).enumerate() {
            if instants.is_null(week) || instants.is_null(week + 1) {
                continue;
            }
            let offset = pair[0] - instants.value(week);
            if offset != pair[1] - instants.value(week + 1) {
                continue;
            }
            match segments.last_mut() {
                Some(last) if last.to == pair[0] && last.offset == offset => last.to = pair[1],
                _ => segments.push(Segment { from: pair[0], to: pair[1], offset }),
            }
        }
        Some(Self { name: name.into(), segments })
    }

    /// Instants of local times, UTC microseconds; `refuse` gets the rows whose local time never was or was twice.
    pub(crate) fn instants(&self, local: &TimestampMicrosecondArray, mut refuse: impl FnMut(usize)) -> TimestampMicrosecondArray {
        let (Some(earliest), Some(latest)) = (min(local), max(local)) else {
            return local.clone().with_timezone("UTC");
        };
        if let Some(segment) = self.segment(earliest).filter(|segment| latest < segment.to) {
            let shifted: TimestampMicrosecondArray = local.unary(|micros| micros.wrapping_sub(segment.offset));
            return shifted.with_timezone("UTC");
        }
        let mut instants = TimestampMicrosecondBuilder::with_capacity(local.len());
        for (row, micros) in local.iter().enumerate() {
            let instant = micros.and_then(|micros| match self.segment(micros) {
                Some(segment) => Some(micros - segment.offset),
                None => self.one(micros),
            });
            if instant.is_none() && micros.is_some() {
                refuse(row);
            }
            instants.append_option(instant);
        }
        instants.finish().with_timezone("UTC")
    }

    fn segment(&self, micros: i64) -> Option<Segment> {
        let index = self.segments.partition_point(|segment| segment.to <= micros);
        self.segments.get(index).copied().filter(|segment| segment.from <= micros)
    }

    /// Near a change of offset or outside 1900 to 2100: asks the zone itself.
    fn one(&self, micros: i64) -> Option<i64> {
        let local: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]));
        let instants = to_instants(&local, &self.name)?;
        instants.is_valid(0).then(|| instants.value(0))
    }
}

fn to_instants(local: &ArrayRef, zone: &str) -> Option<TimestampMicrosecondArray> {
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let instants = cast_with_options(local, &zoned, &options).ok()?;
    instants.as_primitive_opt::<TimestampMicrosecondType>().cloned()
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const DAY: i64 = 86_400 * 1_000_000;
    const HOUR: i64 = 3_600 * 1_000_000;

    #[test]
    fn vietnam_is_seven_hours_ahead_since_1975() {
        let zone = Zone::find("Asia/Ho_Chi_Minh").unwrap();
        let local = TimestampMicrosecondArray::from(vec![Some(20_000 * DAY), None, Some(2_000 * DAY)]);
        let instants = zone.instants(&local, |row| panic!("row {row} refused"));
        assert_eq!(instants.iter().collect::<Vec<_>>(), [Some(20_000 * DAY - 7 * HOUR), None, Some(2_000 * DAY - 7 * HOUR)]);
        assert_eq!(instants.timezone(), Some("UTC"));
    }

    #[test]
    fn times_before_1975_use_the_offset_of_their_day() {
        let zone = Zone::find("Asia/Ho_Chi_Minh").unwrap();
        let local = TimestampMicrosecondArray::from(vec![0, 20_000 * DAY]);
        let instants = zone.instants(&local, |row| panic!("row {row} refused"));
        assert_eq!(instants.values().to_vec(), [-8 * HOUR, 20_000 * DAY - 7 * HOUR]);
    }

    #[test]
    fn an_hour_that_never_was_is_refused() {
        let zone = Zone::find("Europe/Berlin").unwrap();
        // 2024-03-31T02:30 was skipped, 2024-07-01T12:00 was summer time.
        let local = TimestampMicrosecondArray::from(vec![19_813 * DAY + 5 * HOUR / 2, 19_905 * DAY + 12 * HOUR]);
        let mut refused = Vec::new();
        let instants = zone.instants(&local, |row| refused.push(row));
        assert_eq!(refused, [0]);
        assert_eq!(instants.value(1), 19_905 * DAY + 10 * HOUR);
    }

    #[test]
    fn unknown_zones_are_not_found() {
        assert!(Zone::find("Asia/Saigon_City").is_none());
        assert!(Zone::find("+07:00").is_some());
    }
}
