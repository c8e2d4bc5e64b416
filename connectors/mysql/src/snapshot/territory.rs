//! Which rows of a table have been read, and at which place of the log: what decides whether a change of a row is told.

use serde::{Deserialize, Serialize};

use super::key::{Key, Part, is_within};

/// Beginning of the names of the checkpoint's partitions that hold a [`Territory`]; the stream's name follows.
pub(crate) const SNAPSHOT_PREFIX: &str = "snapshot/";

/// The checkpoint's partition `snapshot/<stream>`: the table as spans of keys that meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Territory {
    /// All present rows are told, and it was said so.
    pub(crate) complete: bool,
    /// In the order of the keys; none once the log is past every place at which a span was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spans: Vec<Span>,
}

/// The keys after the span before, up to and including its own bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Its last key; none for the last span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upto: Option<Key>,
    /// The place of the view that read it: changes up to there are in its rows. None while it is not read: its changes are not
    /// told, since its rows will be read as they are after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<u64>,
}

impl Territory {
    /// Cut at these keys, and not read yet.
    pub(crate) fn unread(bounds: Vec<Key>) -> Self {
        let ends = bounds.into_iter().map(Some).chain([None]);
        Self { complete: false, spans: ends.map(|upto| Span { upto, read: None }).collect() }
    }

    /// Nothing is to be read: changes after a place are told.
    pub(crate) fn since(place: u64) -> Self {
        Self { complete: true, spans: vec![Span { upto: None, read: Some(place) }] }
    }

    /// Whether a change at a place of a row with this key is to be told.
    pub(crate) fn tells(&self, key: &[Part], place: u64) -> bool {
        let index = self.spans.partition_point(|span| span.upto.as_ref().is_some_and(|upto| !is_within(key, upto)));
        self.spans.get(index).is_none_or(|span| span.read.is_some_and(|read| place > read))
    }

    /// The latest place at which a span was read.
    pub(crate) fn latest(&self) -> u64 {
        self.spans.iter().filter_map(|span| span.read).max().unwrap_or(0)
    }

    pub(crate) fn is_read(&self) -> bool {
        self.spans.iter().all(|span| span.read.is_some())
    }

    /// The span that ends at a bound was read at a place, up to `key` or whole. Spans that meet and whose places mean nothing
    /// more, since everything up to `delivered` is told, become one.
    pub(crate) fn mark(&mut self, bound: Option<&Key>, key: Option<Key>, place: u64, delivered: u64) {
        let Some(index) = self.spans.iter().position(|span| span.upto.as_ref() == bound) else { return };
        // A span that is read up to its own end is read.
        match key.filter(|key| Some(key) != bound) {
            Some(key) => self.spans.insert(index, Span { upto: Some(key), read: Some(place) }),
            None => self.spans[index].read = Some(place),
        }
        let mut whole: Vec<Span> = Vec::with_capacity(self.spans.len());
        for span in self.spans.drain(..) {
            if let (Some(last), Some(read)) = (whole.last_mut(), span.read)
                && let Some(before) = last.read
                && (before == read || before.max(read) <= delivered)
            {
                *last = Span { upto: span.upto, read: Some(before.max(read)) };
                continue;
            }
            whole.push(span);
        }
        self.spans = whole;
    }

    /// Spans that are read, and spans in all.
    pub(crate) fn count(&self) -> (u64, u64) {
        (self.spans.iter().filter(|span| span.read.is_some()).count() as u64, self.spans.len() as u64)
    }

    /// As the value of the checkpoint's partition.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn key(number: i128) -> Key {
        vec![Part::Number(number)]
    }

    #[test]
    fn a_change_is_told_when_its_row_was_read_before_it() {
        let mut land = Territory::unread(vec![key(10), key(20)]);
        land.mark(Some(&key(10)), None, 100, 0);
        land.mark(Some(&key(20)), Some(key(15)), 200, 0);
        let tells = |number, place| land.tells(&key(number), place);
        assert!(tells(10, 101) && !tells(10, 100));
        assert!(tells(15, 201) && !tells(11, 200));
        assert!(!tells(16, 999) && !tells(21, 999), "not read yet");
        assert_eq!(serde_json::from_value::<Territory>(land.to_json()).unwrap(), land);
        assert_eq!(land.count(), (2, 4));
    }

    #[test]
    fn a_span_that_is_read_up_to_its_own_end_is_read() {
        let mut land = Territory::unread(vec![key(10)]);
        land.mark(Some(&key(10)), Some(key(10)), 100, 0);
        land.mark(Some(&key(10)), None, 100, 0);
        assert_eq!(land.count(), (1, 2));
    }

    #[test]
    fn spans_become_one_only_where_no_change_between_their_places_is_still_to_come() {
        let mut land = Territory::unread(vec![key(10), key(20)]);
        land.mark(Some(&key(10)), None, 100, 150);
        land.mark(Some(&key(20)), None, 200, 150);
        assert_eq!(land.spans.len(), 3);
        land.mark(None, None, 200, 200);
        assert_eq!(land.spans, [Span { upto: None, read: Some(200) }]);
        assert!(land.is_read());
    }
}
