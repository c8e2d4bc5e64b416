//! The child's state between runs: one value for all, one of each stream, or both in one; in the checkpoint.
//!
//! A state may be larger than a Kafka record (a source of many partitions keeps a cursor for each). Such a one is text in
//! parts, `part/<number>/<partition>`, and the partition itself holds how many there are; a state is never a number.

use std::collections::{BTreeMap, BTreeSet};

use hub_sdk::model::Checkpoint;
use serde_json::{Value, json};

use crate::message::{Descriptor, State, full_name};

/// Partition of a state that is one value for everything.
const WHOLE: &str = "state";
/// Partition of a state of all streams with a part that they share.
const GLOBAL: &str = "global";
/// Partition of one stream's state, before its name.
const STREAM: &str = "state/";
/// Bytes of a part at most: with escapes still less than a Kafka record.
const PART: usize = 300_000;

/// What the child said last, and what of it no delivery carries yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    /// By partition.
    values: BTreeMap<String, Value>,
    /// How many parts of a partition stand in the checkpoint.
    parts: BTreeMap<String, usize>,
    moved: BTreeSet<String>,
}

impl States {
    /// What a checkpoint holds. In words, where a part is missing.
    pub(crate) fn restore(from: &Checkpoint) -> Result<Self, String> {
        let mut states = Self::default();
        for (partition, position) in from.iter() {
            let Some(position) = position.filter(|_| [WHOLE, GLOBAL].contains(&partition) || partition.starts_with(STREAM)) else {
                continue;
            };
            let value = match position.as_u64().and_then(|count| usize::try_from(count).ok()) {
                Some(count) => {
                    states.parts.insert(partition.to_owned(), count);
                    joined(from, partition, count)
                        .ok_or_else(|| format!("checkpoint partition {partition} lacks one of its {count} parts"))?
                }
                None => position.clone(),
            };
            states.values.insert(partition.to_owned(), value);
        }
        Ok(states)
    }

    /// Takes note of a state; it stands in the next delivery, with all rows before it.
    pub(crate) fn note(&mut self, state: State) {
        match state {
            State::Whole(value) => self.set(WHOLE.to_owned(), value),
            State::Global(value) => self.set(GLOBAL.to_owned(), value),
            State::Stream { stream, value } => self.set(format!("{STREAM}{}", stream.full()), value),
        }
    }

    fn set(&mut self, partition: String, value: Value) {
        self.moved.insert(partition.clone());
        self.values.insert(partition, value);
    }

    /// Forgets what the states hold of one stream, so that it is read from its beginning.
    pub(crate) fn forget(&mut self, name: &str) {
        let own = format!("{STREAM}{name}");
        if self.values.remove(&own).is_some() {
            self.moved.insert(own);
        }
        if self.values.get_mut(WHOLE).is_some_and(|whole| remove_from_whole(whole, name)) {
            self.moved.insert(WHOLE.to_owned());
        }
        if self.values.get_mut(GLOBAL).is_some_and(|global| remove_from_global(global, name)) {
            self.moved.insert(GLOBAL.to_owned());
        }
    }

    /// Names of streams that have a state of their own.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.values.keys().filter_map(|partition| partition.strip_prefix(STREAM)).map(str::to_owned).collect();
        let global = self.values.get(GLOBAL).and_then(|global| global["stream_states"].as_array());
        names.extend(global.into_iter().flatten().filter_map(name_of));
        let bookmarks = self.values.get(WHOLE).and_then(|whole| whole["bookmarks"].as_object());
        names.extend(bookmarks.into_iter().flat_map(|bookmarks| bookmarks.keys().cloned()));
        names
    }

    /// Moves what changed into the checkpoint of a delivery.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint) {
        for partition in std::mem::take(&mut self.moved) {
            let before = self.parts.remove(&partition).unwrap_or(0);
            let mut now = 0;
            match self.values.get(&partition) {
                None => checkpoint.remove(partition.as_str()),
                Some(value) => {
                    let text = value.to_string();
                    if text.len() <= PART {
                        checkpoint.set(partition.as_str(), value.clone());
                    } else {
                        for part in parts(&text) {
                            checkpoint.set(format!("part/{now}/{partition}"), Value::from(part));
                            now += 1;
                        }
                        checkpoint.set(partition.as_str(), Value::from(now));
                        self.parts.insert(partition.clone(), now);
                    }
                }
            }
            (now..before).for_each(|number| checkpoint.remove(format!("part/{number}/{partition}")));
        }
    }

    /// Whether something changed that no delivery carries yet.
    pub(crate) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The file that a Singer tap is given, where there is a state.
    pub(crate) fn for_singer(&self) -> Option<Value> {
        self.values.get(WHOLE).cloned()
    }

    /// The file that an Airbyte source is given, where there is a state.
    pub(crate) fn for_airbyte(&self) -> Option<Value> {
        if let Some(global) = self.values.get(GLOBAL) {
            return Some(json!([{"type": "GLOBAL", "global": global}]));
        }
        let own = self.values.iter().filter(|(partition, _)| partition.starts_with(STREAM));
        let each: Vec<Value> = own.map(|(_, stream)| json!({"type": "STREAM", "stream": stream})).collect();
        if each.is_empty() { self.values.get(WHOLE).cloned() } else { Some(Value::Array(each)) }
    }
}

/// A text in parts, cut between letters.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = (0..=PART.min(rest.len())).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

fn joined(from: &Checkpoint, partition: &str, count: usize) -> Option<Value> {
    let part = |number: usize| from.get(&format!("part/{number}/{partition}")).and_then(Value::as_str);
    let text: String = (0..count).map(part).collect::<Option<_>>()?;
    serde_json::from_str(&text).ok()
}

/// Takes a stream's part out of one value for all. False where it has none.
fn remove_from_whole(whole: &mut Value, name: &str) -> bool {
    let mut found = false;
    if let Some(bookmarks) = whole.get_mut("bookmarks").and_then(Value::as_object_mut) {
        found = bookmarks.shift_remove(name).is_some();
    } else if let Some(streams) = whole.as_object_mut() {
        // Old Airbyte sources have a member for each stream.
        found = streams.shift_remove(name).is_some();
    }
    if let Some(syncing) = whole.get_mut("currently_syncing").filter(|syncing| syncing.as_str() == Some(name)) {
        *syncing = Value::Null;
        found = true;
    }
    found
}

fn remove_from_global(global: &mut Value, name: &str) -> bool {
    let Some(streams) = global.get_mut("stream_states").and_then(Value::as_array_mut) else { return false };
    let before = streams.len();
    streams.retain(|stream| name_of(stream).as_deref() != Some(name));
    streams.len() < before
}

fn name_of(stream: &Value) -> Option<String> {
    let Descriptor { name, namespace } = serde_json::from_value(stream["stream_descriptor"].clone()).ok()?;
    Some(full_name(&name, namespace.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, at: u64) -> State {
        let value = json!({"stream_descriptor": {"name": name}, "stream_state": {"at": at}});
        State::Stream { stream: Descriptor { name: name.to_owned(), namespace: None }, value }
    }

    #[test]
    fn the_last_state_of_each_stream_is_what_the_child_is_given_after_a_restart() {
        let mut states = States::default();
        states.note(stream("a", 1));
        states.note(stream("b", 1));
        states.note(stream("a", 2));
        let mut checkpoint = Checkpoint::empty();
        states.save(&mut checkpoint);
        assert!(!states.has_moved());
        let mut states = States::restore(&checkpoint).unwrap_or_default();
        let at = |states: &States| states.for_airbyte().map(|all| all.to_string()).unwrap_or_default();
        assert!(at(&states).contains(r#""at":2"#) && at(&states).contains(r#""name":"b""#), "{}", at(&states));
        states.forget("a");
        assert!(!at(&states).contains(r#""name":"a""#));
        states.save(&mut checkpoint);
        assert_eq!(States::restore(&checkpoint).unwrap_or_default().names(), ["b"]);
    }

    #[test]
    fn a_stream_is_forgotten_in_shared_states_too() {
        let mut states = States::default();
        states.note(State::Global(json!({"shared_state": {"lsn": 7}, "stream_states": [
            {"stream_descriptor": {"name": "a", "namespace": "n"}, "stream_state": {}}, {"stream_descriptor": {"name": "b"}},
        ]})));
        states.note(State::Whole(json!({"bookmarks": {"n.a": {"x": 1}, "b": {}}, "currently_syncing": "n.a"})));
        states.forget("n.a");
        assert_eq!(
            states.for_airbyte(),
            Some(
                json!([{"type": "GLOBAL", "global": {"shared_state": {"lsn": 7}, "stream_states": [{"stream_descriptor": {"name": "b"}}]}}])
            )
        );
        assert_eq!(states.for_singer(), Some(json!({"bookmarks": {"b": {}}, "currently_syncing": null})));
    }

    #[test]
    fn a_state_larger_than_a_record_is_kept_in_parts() {
        let (mut states, mut checkpoint) = (States::default(), Checkpoint::empty());
        let large = json!({"cursors": "ộ".repeat(400_000)});
        states.note(State::Global(large.clone()));
        states.save(&mut checkpoint);
        assert!(checkpoint.iter().all(|(_, position)| position.is_none_or(|position| position.to_string().len() < 1_000_000)));
        let mut states = States::restore(&checkpoint).unwrap_or_default();
        assert_eq!(states.for_airbyte(), Some(json!([{"type": "GLOBAL", "global": large}])));
        states.note(State::Global(json!({"small": 1})));
        states.save(&mut checkpoint);
        let standing = checkpoint.iter().filter(|(_, position)| position.is_some()).count();
        assert_eq!(standing, 1, "no part stays");
        checkpoint.set("global", json!(2));
        assert!(States::restore(&checkpoint).is_err_and(|why| why.contains("lacks one of its 2 parts")));
    }
}
