//! Keys that can be compared here as the server compares them: whole numbers and bytes of fixed length.

use serde::{Deserialize, Serialize};

use crate::decode::{Cell, whole};
use crate::kind::{Kind, Layout, quoted};
use crate::wire::little;

/// One column of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Part {
    Number(i128),
    Bytes(Vec<u8>),
}

/// A key, or the first columns of one.
pub(crate) type Key = Vec<Part>;

impl From<Part> for String {
    fn from(part: Part) -> Self {
        match part {
            Part::Number(number) => number.to_string(),
            Part::Bytes(bytes) => format!("x{}", hex(&bytes)),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let Some(digits) = text.strip_prefix('x') else {
            return text.parse().map(Self::Number).map_err(|_| "it is no number");
        };
        let byte = |place| u8::from_str_radix(digits.get(place..place + 2).unwrap_or_default(), 16).map_err(|_| "it is no hexadecimal");
        (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Self::Bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a key is at or before a bound; a bound of fewer columns has all keys that begin with it before it.
pub(crate) fn is_within(key: &[Part], upto: &[Part]) -> bool {
    key.iter().zip(upto).map(|(part, bound)| part.cmp(bound)).find(|order| order.is_ne()).is_none_or(std::cmp::Ordering::is_lt)
}

/// The key of a row: of its cells, which begin at `cells`, in the log's form or the protocol's.
pub(crate) fn key_of(layout: &Layout, ground: &[u8], cells: &[Cell]) -> Key {
    let part = |place: &usize| {
        let bytes = cells.get(*place).and_then(|cell| cell.bytes(ground)).unwrap_or_default();
        match layout.columns.get(*place).map(|column| &column.kind) {
            Some(Kind::Int { unsigned: true, bytes: 8 }) => Part::Number(i128::from(little(bytes))),
            Some(Kind::Int { unsigned, .. }) => Part::Number(i128::from(whole(bytes, !unsigned))),
            Some(Kind::Binary { length }) => {
                let mut whole = bytes.to_vec();
                // The log leaves out zeros at the end.
                whole.resize(usize::from(*length).max(bytes.len()), 0);
                Part::Bytes(whole)
            }
            _ => Part::Bytes(bytes.to_vec()),
        }
    };
    layout.key.iter().map(part).collect()
}

/// The rows after one key and up to another, as SQL; `None` where nothing bounds them.
pub(crate) fn condition(layout: &Layout, after: Option<&Key>, upto: Option<&Key>) -> Option<String> {
    let names: Vec<String> = layout.identity().iter().map(|name| quoted(name)).collect();
    let mut clauses = Vec::new();
    // The first column alone besides: servers find a range by it, and none by what follows.
    if let (Some(key), Some(name)) = (after, names.first())
        && let Some(first) = key.first()
    {
        clauses.push(format!("{name} >= {}", sql(first)));
        clauses.push(beyond(&names, key, ">", false));
    }
    if let (Some(key), Some(name)) = (upto, names.first())
        && let Some(first) = key.first()
    {
        clauses.push(format!("{name} <= {}", sql(first)));
        if key.len() > 1 {
            clauses.push(beyond(&names, key, "<", true));
        }
    }
    (!clauses.is_empty()).then(|| clauses.join(" AND "))
}

/// `(a > 1 OR (a = 1 AND b > 2))`.
fn beyond(names: &[String], key: &[Part], sign: &str, or_same: bool) -> String {
    let mut cases = Vec::new();
    let mut same: Vec<String> = Vec::new();
    for (name, part) in names.iter().zip(key) {
        let mut case = same.clone();
        case.push(format!("{name} {sign} {}", sql(part)));
        cases.push(format!("({})", case.join(" AND ")));
        same.push(format!("{name} = {}", sql(part)));
    }
    if or_same {
        cases.push(format!("({})", same.join(" AND ")));
    }
    format!("({})", cases.join(" OR "))
}

fn sql(part: &Part) -> String {
    match part {
        Part::Number(number) => number.to_string(),
        Part::Bytes(bytes) => format!("X'{}'", hex(bytes)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::kind::Column;

    fn number(number: i128) -> Part {
        Part::Number(number)
    }

    #[test]
    fn a_short_bound_has_every_key_that_begins_with_it() {
        assert!(is_within(&[number(5), number(99)], &[number(5)]));
        assert!(!is_within(&[number(6), number(0)], &[number(5)]));
        assert!(is_within(&[number(5), number(2)], &[number(5), number(2)]));
        assert!(!is_within(&[number(5), number(3)], &[number(5), number(2)]));
    }

    #[test]
    fn keys_read_back_from_the_checkpoint() {
        let key: Key = vec![number(i128::from(u64::MAX)), number(-3), Part::Bytes(vec![0, 255])];
        let text = serde_json::to_value(&key).unwrap();
        assert_eq!(text, serde_json::json!(["18446744073709551615", "-3", "x00ff"]));
        assert_eq!(serde_json::from_value::<Key>(text).unwrap(), key);
    }

    #[test]
    fn rows_between_two_keys_are_asked_for_in_a_way_that_an_index_serves() {
        let column =
            |name: &str| Column { name: name.to_owned(), kind: Kind::Int { bytes: 4, unsigned: false }, source_type: "int".to_owned() };
        let layout = Layout { columns: vec![column("a"), column("b")], key: vec![0, 1] };
        let sql = condition(&layout, Some(&vec![number(1), number(2)]), Some(&vec![number(9)])).unwrap();
        assert_eq!(sql, "`a` >= 1 AND ((`a` > 1) OR (`a` = 1 AND `b` > 2)) AND `a` <= 9");
        assert_eq!(condition(&layout, None, None), None);
    }
}
