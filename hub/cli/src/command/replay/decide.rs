//! What becomes of one reject: made anew by today's mapping, and held against what is known of its key.

use std::collections::{HashMap, HashSet};

use hub_model::{Block, ChangeBatch, Op, Origin, SnapshotMark, fingerprint};
use hub_sdk::StreamShape;
use hub_transform::reject::{Reject, RejectError, raw_rows};

use crate::command::workshop::{Made, Workshop};
use crate::failure::Failure;
use hub_transform::envelope::{FRAME, Place};

/// Reason codes of rows that their connector could not read whole: what is missing of them is not in the raw row.
const UNREAD: [&str; 2] = ["undecodable", "toast-vanished"];
/// What became of a reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes, and is published.
    Published,
    /// A later change of its key is published, or this very one.
    Superseded(&'static str),
    /// Today's filter leaves it out.
    Filtered,
    /// It is refused again: field and reason.
    Refused(String),
    /// It cannot be replayed.
    Stuck(&'static str),
}

impl Fate {
    /// Whether it needs no further look.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Published | Self::Superseded(_) | Self::Filtered)
    }

    /// In a word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Superseded(_) => "superseded",
            Self::Filtered => "filtered",
            Self::Refused(_) => "refused again",
            Self::Stuck(_) => "not replayable",
        }
    }

    /// Why.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Published => "the mapping takes it now".to_owned(),
            Self::Filtered => "`where` leaves it out".to_owned(),
            Self::Superseded(why) | Self::Stuck(why) => (*why).to_owned(),
            Self::Refused(why) => why.clone(),
        }
    }
}

/// A reject made anew.
pub(super) struct Row {
    /// Hash of its key, where it has one.
    pub(super) key: Option<u128>,
    place: Place,
    outcome: Outcome,
}

enum Outcome {
    Passes(Block),
    Deletes(Block),
    Not(Fate),
}

impl Row {
    /// Maps a raw row again.
    pub(super) fn make(reject: &Reject, shape: &StreamShape, workshop: &mut Workshop) -> Result<Self, Failure> {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or_default();
        let place = Place { commit: unsigned(reject.commit_position), position: unsigned(reject.position) };
        let stuck = |why| Ok(Self { key: None, place, outcome: Outcome::Not(Fate::Stuck(why)) });
        let Some(op) = op_of(&reject.op) else { return stuck("a truncate is no row: snapshot the stream anew") };
        let batch = match batch_of(reject, op, shape) {
            Ok(batch) => batch,
            Err(RejectError::Cut) => {
                return stuck("its raw row was too large to be kept whole: change the row at the source, or snapshot the stream anew");
            }
            Err(_) => return stuck("its raw row does not fit the table's present columns: snapshot the stream anew"),
        };
        let key = key_of(&batch, workshop)?;
        if UNREAD.contains(&reject.reason.as_str()) {
            let why = "the source's value could not be read then: change the row at the source, or snapshot the stream anew";
            return Ok(Self { key, place, outcome: Outcome::Not(Fate::Stuck(why)) });
        }
        let made = workshop.make(batch, hub_sdk::now_micros())?;
        Ok(Self { key, place, outcome: outcome(op, made) })
    }

    /// Whether the source must be asked for its key where the topic does not know it.
    pub(super) fn needs_source(&self) -> bool {
        matches!(self.outcome, Outcome::Passes(_))
    }
}

fn outcome(op: Op, mut made: Made) -> Outcome {
    if let Some(reject) = made.rejects.pop() {
        let field = reject.field.map(|field| format!("{field}: ")).unwrap_or_default();
        return Outcome::Not(Fate::Refused(format!("{field}{} ({})", reject.message, reject.reason)));
    }
    match made.block.filter(|block| !block.is_empty()) {
        None => Outcome::Not(Fate::Filtered),
        Some(block) if op == Op::Delete || !block.tombstones.is_empty() => Outcome::Deletes(block),
        Some(block) => Outcome::Passes(block),
    }
}

/// The fate of a row, and what is to be published. `newest` tells the latest place of each key, and learns of what is
/// published; `alive` the keys that the source has, where it was asked.
pub(super) fn judge(row: Row, newest: &mut HashMap<u128, Place>, alive: Option<&HashSet<u128>>) -> (Fate, Option<Block>) {
    let known = row.key.and_then(|key| newest.get(&key));
    match known {
        Some(known) if *known > row.place => return (Fate::Superseded("a later change of its key is published"), None),
        Some(known) if *known == row.place => return (Fate::Superseded("it is published already"), None),
        _ => {}
    }
    let block = match (row.outcome, row.key, alive) {
        (Outcome::Not(fate), ..) => return (fate, None),
        (Outcome::Passes(_), Some(key), Some(alive)) if known.is_none() && !alive.contains(&key) => {
            return (Fate::Superseded("the source no longer has its key"), None);
        }
        (Outcome::Passes(block) | Outcome::Deletes(block), ..) => block,
    };
    if let Some(key) = row.key {
        newest.insert(key, row.place);
    }
    (Fate::Published, Some(block))
}

fn op_of(letter: &str) -> Option<Op> {
    [Op::Read, Op::Create, Op::Update, Op::Delete].into_iter().find(|op| op.letter() == letter)
}

fn batch_of(reject: &Reject, op: Op, shape: &StreamShape) -> Result<ChangeBatch, RejectError> {
    let rows = raw_rows(&[&reject.raw], &shape.schema)?;
    let unsigned = |value: i64| u64::try_from(value).unwrap_or_default();
    let mut origin = Origin::with_capacity(1);
    let (commit, position, ordinal) = (unsigned(reject.commit_position), unsigned(reject.position), unsigned(reject.ordinal));
    origin.push(reject.source_ts_us, commit, position, ordinal, unsigned(reject.transaction));
    Ok(ChangeBatch {
        stream: shape.stream.clone(),
        ops: vec![op],
        rows,
        old: None,
        full_images: false,
        origin,
        key_changes: Vec::new(),
        faults: Vec::new(),
        snapshot: if op == Op::Read { SnapshotMark::Incremental } else { SnapshotMark::No },
    })
}

/// The hash of a row's key, where the mapping gives one: that of its delete.
fn key_of(batch: &ChangeBatch, workshop: &mut Workshop) -> Result<Option<u128>, Failure> {
    let made = workshop.make(ChangeBatch { ops: vec![Op::Delete], ..batch.clone() }, 0)?;
    let keys = made.block.and_then(|block| block.keys);
    Ok(keys.filter(|keys| !keys.is_empty()).and_then(|keys| keys.row(0).get(FRAME..).map(fingerprint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: u128, commit: u64, delete: bool) -> Row {
        let block = Block {
            topic: "t".into(),
            keys: None,
            values: hub_model::Rows::default(),
            timestamps: Vec::new(),
            tombstones: Vec::new(),
            headers: Vec::new(),
        };
        let outcome = if delete { Outcome::Deletes(block) } else { Outcome::Passes(block) };
        Row { key: Some(key), place: Place { commit, position: commit }, outcome }
    }

    #[test]
    fn an_older_row_never_follows_a_newer_one() {
        let mut newest = HashMap::from([(1, Place { commit: 50, position: 50 })]);
        assert_eq!(judge(row(1, 40, false), &mut newest, None).0.word(), "superseded");
        assert_eq!(judge(row(1, 50, false), &mut newest, None).0.detail(), "it is published already");
        assert_eq!(judge(row(1, 60, false), &mut newest, None).0, Fate::Published);
        assert_eq!(judge(row(1, 55, false), &mut newest, None).0.word(), "superseded", "by the one just published");
    }

    #[test]
    fn a_key_that_the_topic_does_not_know_is_published_only_while_the_source_has_it() {
        let alive = HashSet::from([1]);
        let mut newest = HashMap::new();
        assert_eq!(judge(row(1, 40, false), &mut newest, Some(&alive)).0, Fate::Published);
        assert_eq!(judge(row(2, 40, false), &mut newest, Some(&alive)).0, Fate::Superseded("the source no longer has its key"));
        assert_eq!(judge(row(3, 40, true), &mut newest, Some(&alive)).0, Fate::Published, "a delete resurrects nothing");
    }

    #[test]
    fn what_is_refused_again_stays_open_unless_its_key_has_moved_on() {
        let refused = |commit| Row {
            key: Some(1),
            place: Place { commit, position: 0 },
            outcome: Outcome::Not(Fate::Refused("born: no such day (bad-date)".to_owned())),
        };
        let mut newest = HashMap::from([(1, Place { commit: 50, position: 0 })]);
        assert!(judge(refused(40), &mut newest, None).0.is_settled());
        assert!(!judge(refused(60), &mut newest, None).0.is_settled());
    }
}
