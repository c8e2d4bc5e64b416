//! What each change of the registry comes to, decided on a state: the records to write, or why not. Pure.

use super::error::ApiError;
use super::record::{ConfigValue, DeleteValue, HighestId, Key, ModeValue, Record, SchemaValue};
use super::registry::{Decision, Normalize, Offer, find, judge, understand, version};
use super::state::{Mode, Show, State, Version};
use crate::compat::Level;

type Decided<T> = Result<Decision<T>, ApiError>;

pub(super) fn register(state: &State, subject: &str, offer: &Offer, normalize: Normalize) -> Decided<u32> {
    let given_id = given(offer.id)?;
    let given_version = given(offer.version)?;
    let offered = understand(state, offer, normalize, Show::Live)?;
    if let Some((number, entry)) = find(state, subject, &offered, Show::Live)
        && given_version.is_none_or(|version| version == number)
    {
        return match given_id {
            Some(id) if id != entry.id => Err(ApiError::id_does_not_match(entry.id, id)),
            _ => Ok(Decision::Done(entry.id)),
        };
    }
    let mode = state.mode_in_force(Some(subject));
    may_write(subject, mode)?;
    let imports = given_id.is_some() || given_version.is_some();
    match (mode, imports) {
        (Mode::Import, false) => return Err(ApiError::not_permitted(format!("Subject {subject} is not in read-write mode"))),
        (Mode::Import, true) => {}
        (_, true) => return Err(ApiError::not_permitted(format!("Subject {subject} is not in import mode"))),
        (_, false) => {
            let differences = judge(state, subject, state.level_in_force(subject), &offered.schema)?;
            if !differences.is_empty() {
                return Err(ApiError::incompatible(subject, differences));
            }
        }
    }
    if let Some(id) = given_id
        && state.by_id(id).is_some_and(|held| *held != offered.identity)
    {
        return Err(ApiError::not_permitted(format!("Overwrite new schema with id {id} is not permitted.")));
    }
    let id = given_id.or_else(|| state.id_of(&offered.identity)).unwrap_or_else(|| state.highest_id() + 1);
    let number = given_version.unwrap_or_else(|| state.next_version(subject));
    let value = SchemaValue {
        subject: subject.to_owned(),
        version: number,
        id,
        schema_type: None,
        references: offered.identity.references,
        schema: offered.identity.schema,
        deleted: false,
    };
    let key = Key::Schema { subject: subject.to_owned(), version: number };
    Ok(Decision::Write(vec![key.set(&value)], id))
}

/// A number that an import gives; clients write -1 or 0 where they give none.
fn given(number: Option<i64>) -> Result<Option<u32>, ApiError> {
    match number {
        None | Some(-1 | 0) => Ok(None),
        Some(number) => match i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::invalid_version(&number.to_string())),
        },
    }
}

pub(super) fn delete_version(state: &State, subject: &str, number: u32, permanent: bool) -> Decided<u32> {
    let entry = version(state, subject, number, Show::All)?;
    may_write(subject, state.mode_in_force(Some(subject)))?;
    if permanent && !entry.deleted {
        return Err(ApiError::version_not_soft_deleted(subject, number));
    }
    if !permanent && entry.deleted {
        return Err(ApiError::version_soft_deleted(subject, number));
    }
    // A schema that is only soft-deleted can still be needed to decode, so what it refers to must stay.
    let referrers = if permanent { Show::All } else { Show::Live };
    if !state.referrers(subject, number, referrers).is_empty() {
        return Err(ApiError::reference_exists(subject, number));
    }
    let key = Key::Schema { subject: subject.to_owned(), version: number };
    if permanent {
        return Ok(Decision::Write(vec![highest_id(state), key.tombstone()], number));
    }
    let mut records = vec![key.set(&soft_deleted(subject, number, entry))];
    if state.versions(subject, Show::Live) == [number] {
        records.extend(forget_settings(state, subject));
    }
    Ok(Decision::Write(records, number))
}

pub(super) fn delete_subject(state: &State, subject: &str, permanent: bool) -> Decided<Vec<u32>> {
    let (live, all) = (state.versions(subject, Show::Live), state.versions(subject, Show::All));
    let Some(last) = all.last().copied() else { return Err(ApiError::subject_not_found(subject)) };
    if permanent && !live.is_empty() {
        return Err(ApiError::subject_not_soft_deleted(subject));
    }
    if !permanent && live.is_empty() {
        return Err(ApiError::subject_soft_deleted(subject));
    }
    may_write(subject, state.mode_in_force(Some(subject)))?;
    let (doomed, referrers) = if permanent { (all, Show::All) } else { (live, Show::Live) };
    for number in &doomed {
        if state.referrers(subject, *number, referrers).iter().any(|(from, _, _)| *from != subject) {
            return Err(ApiError::reference_exists(subject, *number));
        }
    }
    let key = Key::DeleteSubject { subject: subject.to_owned() };
    let mut records = Vec::with_capacity(doomed.len() + 2);
    if permanent {
        records.push(highest_id(state));
        records.extend(doomed.iter().map(|number| Key::Schema { subject: subject.to_owned(), version: *number }.tombstone()));
        records.push(key.tombstone());
    } else {
        records.push(key.set(&DeleteValue { subject: subject.to_owned(), version: last }));
    }
    records.extend(forget_settings(state, subject));
    Ok(Decision::Write(records, doomed))
}

pub(super) fn set_level(state: &State, subject: Option<&str>, level: Level) -> Decided<()> {
    may_configure(state, subject)?;
    let subject = subject.map(str::to_owned);
    let value = ConfigValue { subject: subject.clone(), level: Some(level.as_str().to_owned()) };
    Ok(Decision::Write(vec![Key::Config { subject }.set(&value)], ()))
}

/// Takes a level away and answers it. The global one falls back to BACKWARD.
pub(super) fn delete_level(state: &State, subject: Option<&str>) -> Decided<Level> {
    may_configure(state, subject)?;
    let level = match (state.level(subject), subject) {
        (Some(level), _) => level,
        (None, Some(subject)) => return Err(ApiError::subject_not_found(subject)),
        (None, None) => return Ok(Decision::Done(Level::Backward)),
    };
    Ok(Decision::Write(vec![Key::Config { subject: subject.map(str::to_owned) }.tombstone()], level))
}

pub(super) fn set_mode(state: &State, subject: Option<&str>, mode: Mode, force: bool) -> Decided<()> {
    if mode == Mode::ReadOnlyOverride && subject.is_some() {
        return Err(ApiError::not_permitted("READONLY_OVERRIDE can only be set for all subjects"));
    }
    if mode == Mode::Import && !force && state.mode_in_force(subject) != Mode::Import {
        let occupied = match subject {
            Some(subject) => state.has_subject(subject, Show::Live),
            None => !state.subjects("", Show::Live).is_empty(),
        };
        if occupied {
            return Err(ApiError::not_permitted("Cannot import since found existing subjects"));
        }
    }
    let subject = subject.map(str::to_owned);
    let value = ModeValue { subject: subject.clone(), mode: Some(mode.as_str().to_owned()) };
    Ok(Decision::Write(vec![Key::Mode { subject }.set(&value)], ()))
}

/// Takes a mode away and answers it. The global one falls back to READWRITE.
pub(super) fn delete_mode(state: &State, subject: Option<&str>) -> Decided<Mode> {
    let mode = match (state.mode(subject), subject) {
        (Some(mode), _) => mode,
        (None, Some(subject)) => return Err(ApiError::subject_not_found(subject)),
        (None, None) => return Ok(Decision::Done(Mode::ReadWrite)),
    };
    Ok(Decision::Write(vec![Key::Mode { subject: subject.map(str::to_owned) }.tombstone()], mode))
}

fn may_write(subject: &str, mode: Mode) -> Result<(), ApiError> {
    if mode.is_read_only() {
        return Err(ApiError::not_permitted(format!("Subject {subject} is in read-only mode")));
    }
    Ok(())
}

fn may_configure(state: &State, subject: Option<&str>) -> Result<(), ApiError> {
    if state.mode_in_force(subject).is_read_only() {
        let what = subject.map_or_else(|| "The registry".to_owned(), |subject| format!("Subject {subject}"));
        return Err(ApiError::not_permitted(format!("{what} is in read-only mode")));
    }
    Ok(())
}

fn soft_deleted(subject: &str, number: u32, entry: &Version) -> SchemaValue {
    SchemaValue {
        subject: subject.to_owned(),
        version: number,
        id: entry.id,
        schema_type: None,
        references: entry.references.clone(),
        schema: entry.schema.clone(),
        deleted: true,
    }
}

fn highest_id(state: &State) -> Record {
    Key::Noop { magic: 1 }.set(&HighestId { highest_id: state.highest_id() })
}

fn forget_settings(state: &State, subject: &str) -> Vec<Record> {
    let named = Some(subject.to_owned());
    let level = state.level(Some(subject)).map(|_| Key::Config { subject: named.clone() }.tombstone());
    let mode = state.mode(Some(subject)).map(|_| Key::Mode { subject: named }.tombstone());
    level.into_iter().chain(mode).collect()
}
