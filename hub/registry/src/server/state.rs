//! What the records of the topic add up to: subjects, versions, ids, levels and modes. Pure: records in, answers out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use super::error::ApiError;
use super::record::{ConfigValue, DeleteValue, HighestId, Key, ModeValue, Reference, SchemaValue};
use crate::compat::Level;
use crate::schema::{Schema, SchemaError};

/// Everything that the topic says up to an offset.
#[derive(Debug, Default)]
pub(crate) struct State {
    subjects: BTreeMap<String, BTreeMap<u32, Version>>,
    ids: BTreeMap<u32, IdEntry>,
    by_identity: HashMap<Identity, u32>,
    levels: BTreeMap<Option<String>, Level>,
    modes: BTreeMap<Option<String>, Mode>,
    highest_id: u32,
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The id under which messages name the schema.
    pub id: u32,
    /// Its text.
    pub schema: String,
    /// The schemas it refers to.
    pub references: Vec<Reference>,
    /// Soft-deleted: found by id, no longer listed.
    pub deleted: bool,
}

/// What makes two schemas the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) schema: String,
    pub(crate) references: Vec<Reference>,
}

#[derive(Debug)]
struct IdEntry {
    identity: Identity,
    uses: BTreeSet<(String, u32)>,
}

/// What a registry or a subject lets be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    ReadWrite,
    /// Only reading.
    ReadOnly,
    /// Only reading, whatever a subject's own mode says (global only).
    ReadOnlyOverride,
    /// Schemas are registered with the ids and versions that the caller gives, unchecked.
    Import,
}

/// Which versions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Live,
    All,
    DeletedOnly,
}

impl Show {
    pub(crate) const fn takes(self, deleted: bool) -> bool {
        match self {
            Self::Live => !deleted,
            Self::All => true,
            Self::DeletedOnly => deleted,
        }
    }
}

impl Mode {
    /// The mode as Confluent writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
        }
    }

    pub(crate) const fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadOnlyOverride)
    }
}

impl FromStr for Mode {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        [Self::ReadWrite, Self::ReadOnly, Self::ReadOnlyOverride, Self::Import]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(ApiError::invalid_mode)
    }
}

/// A record that is not understood; it is passed over, as Confluent's registry does.
#[derive(Debug, thiserror::Error)]
#[error("a record of the schemas topic is not understood: {0}")]
pub(crate) struct NotUnderstood(#[from] serde_json::Error);

impl State {
    /// Takes in the next record of the topic.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), NotUnderstood> {
        match (serde_json::from_slice(key)?, value) {
            (Key::Schema { subject, version }, None) => self.remove(&subject, version),
            (Key::Schema { .. }, Some(value)) => self.put(serde_json::from_slice(value)?),
            (Key::Config { subject }, value) => {
                let config = value.map(serde_json::from_slice::<ConfigValue>).transpose()?;
                match config.and_then(|config| config.level?.parse().ok()) {
                    Some(level) => self.levels.insert(subject, level),
                    None => self.levels.remove(&subject),
                };
            }
            (Key::Mode { subject }, value) => {
                let value = value.map(serde_json::from_slice::<ModeValue>).transpose()?;
                match value.and_then(|value| value.mode?.parse().ok()) {
                    Some(mode) => self.modes.insert(subject, mode),
                    None => self.modes.remove(&subject),
                };
            }
            (Key::DeleteSubject { .. }, Some(value)) => {
                let DeleteValue { subject, version: last } = serde_json::from_slice(value)?;
                if let Some(versions) = self.subjects.get_mut(&subject) {
                    versions.range_mut(..=last).for_each(|(_, version)| version.deleted = true);
                }
            }
            (Key::ClearSubject { subject }, Some(_)) => {
                let deleted = self.versions(&subject, Show::DeletedOnly);
                deleted.into_iter().for_each(|version| self.remove(&subject, version));
            }
            (Key::Noop { magic: 1 }, Some(value)) => {
                let HighestId { highest_id } = serde_json::from_slice(value)?;
                self.highest_id = self.highest_id.max(highest_id);
            }
            (Key::DeleteSubject { .. } | Key::ClearSubject { .. } | Key::Noop { .. }, _) => {}
        }
        Ok(())
    }

    fn put(&mut self, value: SchemaValue) {
        let SchemaValue { subject, version, id, references, schema, deleted, .. } = value;
        self.remove(&subject, version);
        self.highest_id = self.highest_id.max(id);
        let identity = Identity { schema, references };
        let place = (subject.clone(), version);
        self.by_identity.entry(identity.clone()).or_insert(id);
        let version_entry = Version { id, schema: identity.schema.clone(), references: identity.references.clone(), deleted };
        self.ids.entry(id).or_insert_with(|| IdEntry { identity, uses: BTreeSet::new() }).uses.insert(place);
        self.subjects.entry(subject).or_default().insert(version, version_entry);
    }

    fn remove(&mut self, subject: &str, version: u32) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(removed) = versions.remove(&version) else { return };
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(entry) = self.ids.get_mut(&removed.id) else { return };
        entry.uses.remove(&(subject.to_owned(), version));
        if entry.uses.is_empty()
            && let Some(entry) = self.ids.remove(&removed.id)
            && self.by_identity.get(&entry.identity) == Some(&removed.id)
        {
            self.by_identity.remove(&entry.identity);
        }
    }

    /// Names of the subjects that begin with `prefix` and have a version of the kind to show.
    pub(crate) fn subjects(&self, prefix: &str, show: Show) -> Vec<String> {
        let from = self.subjects.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        // A subject counts as deleted when all of its versions are.
        let shown = from.filter(|(_, versions)| match show {
            Show::All => true,
            Show::Live => versions.values().any(|version| !version.deleted),
            Show::DeletedOnly => versions.values().all(|version| version.deleted),
        });
        shown.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn has_subject(&self, subject: &str, show: Show) -> bool {
        !self.versions(subject, show).is_empty()
    }

    /// The numbers of a subject's versions, ascending.
    pub(crate) fn versions(&self, subject: &str, show: Show) -> Vec<u32> {
        self.listed(subject, show).map(|(number, _)| number).collect()
    }

    /// A subject's versions, ascending.
    pub(crate) fn listed(&self, subject: &str, show: Show) -> impl DoubleEndedIterator<Item = (u32, &Version)> {
        let versions = self.subjects.get(subject).into_iter().flatten();
        versions.map(|(number, version)| (*number, version)).filter(move |(_, version)| show.takes(version.deleted))
    }

    pub(crate) fn version(&self, subject: &str, number: u32, show: Show) -> Option<&Version> {
        self.subjects.get(subject)?.get(&number).filter(|version| show.takes(version.deleted))
    }

    pub(crate) fn latest(&self, subject: &str) -> Option<(u32, &Version)> {
        self.listed(subject, Show::Live).next_back()
    }

    /// The number that the next version of a subject gets. Soft-deleted versions keep theirs.
    pub(crate) fn next_version(&self, subject: &str) -> u32 {
        self.listed(subject, Show::All).next_back().map_or(1, |(number, _)| number + 1)
    }

    pub(crate) const fn highest_id(&self) -> u32 {
        self.highest_id
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<&Identity> {
        self.ids.get(&id).map(|entry| &entry.identity)
    }

    pub(crate) fn id_of(&self, identity: &Identity) -> Option<u32> {
        self.by_identity.get(identity).copied()
    }

    /// Subjects and versions that have the schema of an id.
    pub(crate) fn uses(&self, id: u32, show: Show) -> Vec<(String, u32)> {
        let uses = self.ids.get(&id).into_iter().flat_map(|entry| &entry.uses);
        uses.filter(|(subject, version)| self.version(subject, *version, show).is_some()).cloned().collect()
    }

    /// The subjects, versions and ids of schemas that refer to this one.
    pub(crate) fn referrers(&self, subject: &str, version: u32, show: Show) -> Vec<(&str, u32, u32)> {
        let all = self.subjects.iter().flat_map(|(name, versions)| versions.iter().map(move |(number, found)| (name, *number, found)));
        let refers = |found: &Version| {
            found.references.iter().any(|r| r.subject == subject && u32::try_from(r.version).is_ok_and(|number| number == version))
        };
        all.filter(|(_, _, found)| show.takes(found.deleted) && refers(found))
            .map(|(name, number, found)| (name.as_str(), number, found.id))
            .collect()
    }

    pub(crate) fn level(&self, subject: Option<&str>) -> Option<Level> {
        self.levels.get(&subject.map(str::to_owned)).copied()
    }

    /// The level that holds for a subject.
    pub(crate) fn level_in_force(&self, subject: &str) -> Level {
        self.level(Some(subject)).or_else(|| self.level(None)).unwrap_or(Level::Backward)
    }

    pub(crate) fn mode(&self, subject: Option<&str>) -> Option<Mode> {
        self.modes.get(&subject.map(str::to_owned)).copied()
    }

    /// The mode that holds for a subject.
    pub(crate) fn mode_in_force(&self, subject: Option<&str>) -> Mode {
        let global = self.mode(None).unwrap_or(Mode::ReadWrite);
        if global == Mode::ReadOnlyOverride {
            return global;
        }
        subject.and_then(|subject| self.mode(Some(subject))).unwrap_or(global)
    }

    /// Parses a schema with everything that it refers to, directly or not.
    pub(crate) fn parse(&self, identity: &Identity, show: Show) -> Result<Schema, ApiError> {
        let mut texts = Vec::new();
        let mut seen = BTreeSet::new();
        self.collect(&identity.references, show, &mut seen, &mut texts)?;
        Schema::parse(&identity.schema, &texts).map_err(|error: SchemaError| ApiError::invalid_schema(error))
    }

    fn collect<'a>(
        &'a self,
        references: &[Reference],
        show: Show,
        seen: &mut BTreeSet<(String, i32)>,
        texts: &mut Vec<&'a str>,
    ) -> Result<(), ApiError> {
        for reference in references {
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            let found = u32::try_from(reference.version).ok().and_then(|number| self.version(&reference.subject, number, show));
            let Some(found) = found else {
                let Reference { subject, version, name } = reference;
                let why = format!("No schema reference found for subject \"{subject}\" and version {version} (as {name})");
                return Err(ApiError::invalid_schema(why));
            };
            // What is referred to must itself be live; what that one leans on is history by now.
            self.collect(&found.references, Show::All, seen, texts)?;
            texts.push(&found.schema);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn apply(state: &mut State, key: &Key, value: Option<&str>) {
        state.apply(key.text().as_bytes(), value.map(str::as_bytes)).unwrap();
    }

    fn put(state: &mut State, subject: &str, version: u32, id: u32, schema: &str) {
        let value = SchemaValue {
            subject: subject.to_owned(),
            version,
            id,
            schema_type: None,
            references: Vec::new(),
            schema: schema.to_owned(),
            deleted: false,
        };
        let key = Key::Schema { subject: subject.to_owned(), version };
        apply(state, &key, Some(&serde_json::to_string(&value).unwrap()));
    }

    #[test]
    fn deleting_a_subject_hides_its_versions_and_a_tombstone_removes_them() {
        let mut state = State::default();
        put(&mut state, "s", 1, 1, "\"int\"");
        put(&mut state, "s", 2, 2, "\"long\"");
        apply(&mut state, &Key::DeleteSubject { subject: "s".to_owned() }, Some(r#"{"subject":"s","version":2}"#));
        assert_eq!((state.versions("s", Show::Live), state.versions("s", Show::All)), (vec![], vec![1, 2]));
        assert_eq!(state.next_version("s"), 3);
        apply(&mut state, &Key::Schema { subject: "s".to_owned(), version: 2 }, None);
        assert_eq!(state.versions("s", Show::All), [1]);
        assert!(state.by_id(2).is_none(), "the last use of id 2 is gone");
        assert_eq!(state.highest_id(), 2, "but the id is not free again");
    }

    #[test]
    fn the_highest_id_outlives_its_schema() {
        let mut state = State::default();
        apply(&mut state, &Key::Noop { magic: 1 }, Some(r#"{"highestId":9}"#));
        apply(&mut state, &Key::Noop { magic: 0 }, None);
        assert_eq!(state.highest_id(), 9);
    }

    #[test]
    fn a_record_that_is_not_understood_is_an_error_and_changes_nothing() {
        let mut state = State::default();
        assert!(state.apply(br#"{"keytype":"EXPORTER"}"#, None).is_err());
        assert!(state.apply(br#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#, Some(b"{}")).is_err());
        assert!(state.subjects("", Show::All).is_empty());
    }

    #[test]
    fn a_read_only_override_wins_over_a_subjects_own_mode() {
        let mut state = State::default();
        apply(&mut state, &Key::Mode { subject: Some("s".to_owned()) }, Some(r#"{"mode":"READWRITE"}"#));
        apply(&mut state, &Key::Mode { subject: None }, Some(r#"{"mode":"READONLY"}"#));
        assert_eq!(state.mode_in_force(Some("s")), Mode::ReadWrite);
        apply(&mut state, &Key::Mode { subject: None }, Some(r#"{"mode":"READONLY_OVERRIDE"}"#));
        assert_eq!(state.mode_in_force(Some("s")), Mode::ReadOnlyOverride);
    }
}
