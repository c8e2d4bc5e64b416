//! JSON documents. Numbers keep their digits: values are taken from the text itself, never through a float.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DocumentError, Fields, add, steps};

/// Calls `take` with the fields of every row at `path` (`/data/items`). A list's elements are rows, and so is a single object.
/// A step over a list goes into each of its elements.
///
/// # Errors
/// [`DocumentError`], before or after rows were taken.
pub fn json_rows(document: &str, path: &str, mut take: impl FnMut(Fields)) -> Result<(), DocumentError> {
    let root: &RawValue = serde_json::from_str(document.trim_start_matches('\u{feff}')).map_err(malformed)?;
    let mut found = Vec::new();
    descend(root.get(), path, &mut steps(path).collect::<Vec<_>>().into_iter(), &mut found)?;
    for (place, row) in found.into_iter().enumerate() {
        take(row_fields(row, place + 1)?);
    }
    Ok(())
}

/// The text at a path, where there is one value: a cursor, a status, a count. `None` for null or nothing.
///
/// # Errors
/// [`DocumentError::Malformed`] where the document is no JSON.
pub fn json_at(document: &str, path: &str) -> Result<Option<String>, DocumentError> {
    let mut raw: &RawValue = serde_json::from_str(document.trim_start_matches('\u{feff}')).map_err(malformed)?;
    for step in steps(path) {
        let next = match raw.get().as_bytes().first() {
            Some(b'{') => object(raw.get())?.into_iter().find(|(name, _)| name == step).map(|(_, value)| value),
            Some(b'[') => {
                let place: Option<usize> = step.parse().ok();
                let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(malformed)?;
                place.and_then(|place| list.get(place).copied())
            }
            _ => None,
        };
        let Some(next) = next else { return Ok(None) };
        raw = next;
    }
    text(raw.get())
}

/// The fields of one JSON object.
///
/// # Errors
/// [`DocumentError`] where it is no object, counted as row 1.
pub fn json_fields(object: &str) -> Result<Fields, DocumentError> {
    let raw: &RawValue = serde_json::from_str(object).map_err(malformed)?;
    row_fields(raw.get(), 1)
}

fn row_fields(row: &str, place: usize) -> Result<Fields, DocumentError> {
    if !row.starts_with('{') {
        return Err(DocumentError::NotARow { row: place, found: kind(row) });
    }
    let mut fields = Fields::new();
    flatten("", row, &mut fields)?;
    Ok(fields)
}

fn flatten(prefix: &str, raw: &str, fields: &mut Fields) -> Result<(), DocumentError> {
    for (name, value) in object(raw)? {
        let name = if prefix.is_empty() { name } else { format!("{prefix}_{name}") };
        match value.get().as_bytes().first() {
            Some(b'{') if value.get().len() > 2 => flatten(&name, value.get(), fields)?,
            _ => add(fields, &name, text(value.get())?),
        }
    }
    Ok(())
}

fn descend<'a>(
    raw: &'a str,
    path: &str,
    rest: &mut (impl Iterator<Item = &'a str> + Clone),
    found: &mut Vec<&'a str>,
) -> Result<(), DocumentError> {
    if raw.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(malformed)?;
        return list.into_iter().try_for_each(|element| descend(element.get(), path, &mut rest.clone(), found));
    }
    let Some(step) = rest.next() else {
        // An empty answer may be written as null.
        if raw != "null" {
            found.push(raw);
        }
        return Ok(());
    };
    if !raw.starts_with('{') {
        return Err(DocumentError::NoRows { path: path.to_owned(), found: format!("{step} is looked for in {}", kind(raw)) });
    }
    let fields = object(raw)?;
    match fields.iter().find(|(name, _)| name == step) {
        Some((_, value)) => descend(value.get(), path, rest, found),
        None => {
            let names: Vec<_> = fields.iter().take(12).map(|(name, _)| name.as_str()).collect();
            Err(DocumentError::NoRows { path: path.to_owned(), found: format!("no {step} among {}", names.join(", ")) })
        }
    }
}

/// The text of a value: a string's content, everything else as written; `None` for null.
fn text(raw: &str) -> Result<Option<String>, DocumentError> {
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map(Some).map_err(malformed),
        Some(b'n') => Ok(None),
        _ => Ok(Some(raw.to_owned())),
    }
}

fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a truth value",
        _ => "a number",
    }
}

/// The members of an object in their order.
fn object(raw: &str) -> Result<Vec<(String, &RawValue)>, DocumentError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    struct Object<'a>(Vec<(String, &'a RawValue)>);
    impl<'de> Deserialize<'de> for Object<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Members).map(Object)
        }
    }
    serde_json::from_str::<Object<'_>>(raw).map(|object| object.0).map_err(malformed)
}

fn malformed(error: serde_json::Error) -> DocumentError {
    DocumentError::Malformed { form: "JSON", why: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rows(document: &str, path: &str) -> Vec<Vec<(String, String)>> {
        let mut rows = Vec::new();
        json_rows(document, path, |fields| {
            rows.push(fields.into_iter().map(|(name, value)| (name, value.unwrap_or_else(|| "∅".to_owned()))).collect());
        })
        .unwrap();
        rows
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn digits_zeros_and_nulls_stay_as_written() {
        let found =
            rows(r#"{"data":{"items":[{"id":"0079","fee":2.50,"big":12345678901234567890123,"x":null,"ok":true}]}}"#, "/data/items");
        assert_eq!(found, [pairs(&[("id", "0079"), ("fee", "2.50"), ("big", "12345678901234567890123"), ("x", "∅"), ("ok", "true")])]);
    }

    #[test]
    fn nested_objects_are_flattened_and_lists_are_text() {
        let found = rows(r#"[{"a":{"b":{"c":1}},"l":[1, "hai"],"e":{}}]"#, "");
        assert_eq!(found, [pairs(&[("a_b_c", "1"), ("l", r#"[1, "hai"]"#), ("e", "{}")])]);
    }

    #[test]
    fn a_path_goes_into_every_element_of_a_list_and_one_object_is_one_row() {
        assert_eq!(rows(r#"{"p":[{"r":[{"i":1}]},{"r":{"i":2}}]}"#, "/p/r"), [pairs(&[("i", "1")]), pairs(&[("i", "2")])]);
        assert_eq!(rows(r#"{"p":null}"#, "/p"), Vec::<Vec<(String, String)>>::new());
    }

    #[test]
    fn two_members_of_one_name_are_both_kept() {
        assert_eq!(rows(r#"{"a":1,"a":2}"#, ""), [pairs(&[("a", "1"), ("a_2", "2")])]);
    }

    #[test]
    fn a_wrong_path_tells_what_one_could_have_meant() {
        let error = json_rows(r#"{"Data":[],"total":0}"#, "/data", |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "there is nothing at /data: no data among Data, total");
        let error = json_rows("[1]", "", |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "row 1 is a number, not an object");
        assert!(json_rows("{", "", |_| {}).unwrap_err().to_string().starts_with("not well-formed JSON: "));
    }

    #[test]
    fn single_values_are_found_by_path() {
        let document = r#"{"paging":{"next":"abc"},"codes":[7,8],"none":null}"#;
        assert_eq!(json_at(document, "/paging/next").unwrap().as_deref(), Some("abc"));
        assert_eq!(json_at(document, "/codes/1").unwrap().as_deref(), Some("8"));
        assert_eq!(json_at(document, "/none").unwrap(), None);
        assert_eq!(json_at(document, "/nowhere/else").unwrap(), None);
    }
}
