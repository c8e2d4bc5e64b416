//! The child's state between runs: one value for all, one of each stream, or both in one; in the checkpoint.

use std::collections::BTreeMap;

use hub_sdk::model::Checkpoint;
use serde_json::{Value, json};

use crate::message::{Descriptor, State, full_name};

/// Partition of a state that is one value for everything.
const WHOLE: &str = "state";
/// Partition of a state of all streams with a part that they share.
const GLOBAL: &str = "global";
/// Partition of one stream's state, before its name.
const STREAM: &str = "state/";

/// What the child said last, and what of it no delivery carries yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    whole: Option<Value>,
    global: Option<Value>,
    streams: BTreeMap<String, Value>,
    moved: Checkpoint,
}

impl States {
    /// What a checkpoint holds.
    pub(crate) fn restore(from: &Checkpoint) -> Self {
        let mut states = Self { whole: from.get(WHOLE).cloned(), global: from.get(GLOBAL).cloned(), ..Self::default() };
        for (partition, position) in from.iter() {
            if let (Some(name), Some(position)) = (partition.strip_prefix(STREAM), position) {
                states.streams.insert(name.to_owned(), position.clone());
            }
        }
        states
    }

    /// Takes note of a state; what stands in the next delivery, with all rows before it.
    pub(crate) fn note(&mut self, state: State) {
        match state {
            State::Whole(value) => self.set_whole(value),
            State::Global(value) => self.set_global(value),
            State::Stream { stream, value } => {
                let name = stream.full();
                self.moved.set(format!("{STREAM}{name}"), value.clone());
                self.streams.insert(name, value);
            }
        }
    }

    fn set_whole(&mut self, value: Value) {
        self.moved.set(WHOLE, value.clone());
        self.whole = Some(value);
    }

    fn set_global(&mut self, value: Value) {
        self.moved.set(GLOBAL, value.clone());
        self.global = Some(value);
    }

    /// Forgets what the states hold of one stream, so that it is read from its beginning.
    pub(crate) fn forget(&mut self, name: &str) {
        if self.streams.remove(name).is_some() {
            self.moved.remove(format!("{STREAM}{name}"));
        }
        if let Some(whole) = self.whole.as_mut().and_then(|whole| without(whole, name)) {
            self.set_whole(whole);
        }
        if let Some(global) = self.global.as_mut().and_then(|global| without_stream(global, name)) {
            self.set_global(global);
        }
    }

    /// Names of streams that have a state of their own.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.streams.keys().cloned().collect();
        if let Some(global) = &self.global {
            names.extend(stream_states(global).filter_map(name_of));
        }
        if let Some(bookmarks) = self.whole.as_ref().and_then(|whole| whole["bookmarks"].as_object()) {
            names.extend(bookmarks.keys().cloned());
        }
        names
    }

    /// Moves what changed into the checkpoint of a delivery.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint) {
        checkpoint.merge(&std::mem::take(&mut self.moved));
    }

    /// Whether something changed that no delivery carries yet.
    pub(crate) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The file that a Singer tap is given, where there is a state.
    pub(crate) fn for_singer(&self) -> Option<Value> {
        self.whole.clone()
    }

    /// The file that an Airbyte source is given, where there is a state.
    pub(crate) fn for_airbyte(&self) -> Option<Value> {
        if let Some(global) = &self.global {
            return Some(json!([{"type": "GLOBAL", "global": global}]));
        }
        if !self.streams.is_empty() {
            let each = self.streams.values().map(|stream| json!({"type": "STREAM", "stream": stream}));
            return Some(each.collect());
        }
        self.whole.clone()
    }
}

/// One value without a stream's part; `None` where it has none.
fn without(whole: &mut Value, name: &str) -> Option<Value> {
    let mut found = false;
    if let Some(bookmarks) = whole.get_mut("bookmarks").and_then(Value::as_object_mut) {
        found = bookmarks.shift_remove(name).is_some();
    } else if let Some(streams) = whole.as_object_mut() {
        // Old Airbyte sources have a member for each stream.
        found = streams.shift_remove(name).is_some();
    }
    if whole.get("currently_syncing").and_then(Value::as_str) == Some(name) {
        whole["currently_syncing"] = Value::Null;
        found = true;
    }
    found.then(|| whole.clone())
}

fn without_stream(global: &mut Value, name: &str) -> Option<Value> {
    let streams = global.get_mut("stream_states")?.as_array_mut()?;
    let before = streams.len();
    streams.retain(|stream| name_of(stream).as_deref() != Some(name));
    (streams.len() < before).then(|| global.clone())
}

fn stream_states(global: &Value) -> impl Iterator<Item = &Value> {
    global["stream_states"].as_array().into_iter().flatten()
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
        let mut states = States::restore(&checkpoint);
        let at = |states: &States| states.for_airbyte().map(|all| all.to_string()).unwrap_or_default();
        assert!(at(&states).contains(r#""at":2"#) && at(&states).contains(r#""name":"b""#), "{}", at(&states));
        states.forget("a");
        assert!(!at(&states).contains(r#""name":"a""#));
        states.save(&mut checkpoint);
        assert_eq!(States::restore(&checkpoint).names(), ["b"]);
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
}
