//! Drafts mappings: guesses entity, fields and expressions by names and types, and says what it could not guess.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use arrow::datatypes::{DataType, TimeUnit};
use hub_sdk::{Column, StreamShape};
use hub_transform::CanonicalSchema;
use hub_transform::schema::CanonicalField;

use super::words::{likeness, words};
use crate::command::schemas::type_of;

/// An entity or field must be at least so like a table or column, out of 100, to be guessed.
const ENOUGH: usize = 51;

/// A `streams:` section with every stream, to be completed by an engineer.
pub(super) fn drafts(shapes: &[&StreamShape], entities: &BTreeMap<String, CanonicalSchema>) -> String {
    let mut text = String::from(
        "# Drafted by `hub discover --draft`: guesses by names and types. Read every line, then `hub check` and `hub preview`.\nstreams:\n",
    );
    for shape in shapes {
        draft(shape, entities, &mut text);
    }
    text
}

fn draft(shape: &StreamShape, entities: &BTreeMap<String, CanonicalSchema>, text: &mut String) {
    let _ = writeln!(text, "\n  - source: {}", quoted(shape.stream.as_str()));
    for finding in &shape.findings {
        let _ = writeln!(text, "    # {}", finding.message.replace('\n', " "));
    }
    match guess_entity(shape, entities) {
        Some((name, canonical)) => with_entity(shape, name, canonical, text),
        None => without_entity(shape, entities, text),
    }
}

/// The entity whose name is nearest to the table's and whose fields are nearest to its columns.
fn guess_entity<'a>(shape: &StreamShape, entities: &'a BTreeMap<String, CanonicalSchema>) -> Option<(&'a str, &'a CanonicalSchema)> {
    let table = table_words(shape);
    let score = |canonical: &CanonicalSchema| {
        let titles = canonical.titles();
        let named = [&*titles.vi, &*titles.en, canonical.name()].map(|name| likeness(&table, &words(name)));
        let matched = pair(shape, canonical).len() * 100 / shape.columns.len().max(1);
        named.into_iter().max().unwrap_or_default() + matched
    };
    let best = entities.iter().map(|(name, canonical)| (score(canonical), name.as_str(), canonical)).max_by_key(|(score, ..)| *score);
    best.filter(|(score, ..)| *score >= ENOUGH).map(|(_, name, canonical)| (name, canonical))
}

/// Field → column, nearest first, each used once.
fn pair<'a>(shape: &'a StreamShape, canonical: &'a CanonicalSchema) -> BTreeMap<&'a str, usize> {
    let table = table_words(shape);
    let mut scores = Vec::new();
    for field in canonical.fields() {
        let names = [&*field.titles().vi, &*field.titles().en, field.name()].map(words);
        for (at, column) in shape.columns.iter().enumerate() {
            let told = [Some(column.name.as_str()), column.comment.as_deref()].into_iter().flatten().map(words);
            let near = told.flat_map(|column| names.each_ref().map(|name| nearness(name, &column, &table))).max().unwrap_or_default();
            // What identifies a row is always given.
            let score = match (column.key.is_some(), field.nullable()) {
                (true, true) => near.saturating_sub(30),
                (true, false) if near >= ENOUGH => near + 15,
                _ => near,
            };
            if score >= ENOUGH {
                scores.push((score, field.name(), at));
            }
        }
    }
    scores.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    let mut pairs = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (_, field, column) in scores {
        if !pairs.contains_key(field) && used.insert(column) {
            pairs.insert(field, column);
        }
    }
    pairs
}

fn table_words(shape: &StreamShape) -> BTreeSet<String> {
    words(shape.stream.as_str().rsplit('.').next().unwrap_or_default())
}

/// How like two names are, with or without the words of the table: in `co_quan`, `ten` is the `Tên cơ quan`.
fn nearness(left: &BTreeSet<String>, right: &BTreeSet<String>, table: &BTreeSet<String>) -> usize {
    let without = |words: &BTreeSet<String>| words.difference(table).cloned().collect::<BTreeSet<_>>();
    likeness(left, right).max(likeness(&without(left), &without(right)))
}

fn with_entity(shape: &StreamShape, name: &str, canonical: &CanonicalSchema, text: &mut String) {
    let pairs = pair(shape, canonical);
    let _ = writeln!(text, "    entity: {name}   # a guess: {}", canonical.titles().vi);
    let keys = guess_key(shape, canonical, &pairs).join(", ");
    let _ = writeln!(text, "    key: [{keys}]   # the source tells rows apart by {}", identity(shape));
    text.push_str("    map:\n");
    for field in canonical.fields() {
        match pairs.get(field.name()) {
            Some(at) => {
                let (column, arrow) = (&shape.columns[*at], shape.schema.field(*at).data_type());
                let sql = expression(field, column, arrow);
                let _ = writeln!(text, "      {}: {}   # {}", field.name(), scalar(&sql), remark(column));
            }
            None => {
                let must = if field.nullable() || field.has_default() { "" } else { ", must be given" };
                let _ = writeln!(text, "      # {}:   # {} ({}{must})", field.name(), field.titles().vi, type_of(field));
            }
        }
    }
    let used: BTreeSet<usize> = pairs.values().copied().collect();
    for (_, column) in shape.columns.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        let _ = writeln!(text, "      # not mapped: {}   # {}", column.name, remark(column));
    }
}

/// The key that the entity's documentation names (`Key: code.`), else the fields that the source's key fills.
fn guess_key<'a>(shape: &StreamShape, canonical: &'a CanonicalSchema, pairs: &BTreeMap<&str, usize>) -> Vec<&'a str> {
    let named = canonical.doc().split("Key: ").nth(1).and_then(|rest| rest.split('.').next()).unwrap_or_default();
    let named: Vec<&str> = named.split([',', ' ']).filter_map(|name| canonical.field(name).map(CanonicalField::name)).collect();
    if !named.is_empty() && named.iter().all(|name| pairs.contains_key(name)) {
        return named;
    }
    let filled = |field: &&CanonicalField| pairs.get(field.name()).is_some_and(|at| shape.columns[*at].key.is_some());
    canonical.fields().iter().filter(|field| !field.nullable()).filter(filled).map(CanonicalField::name).collect()
}

fn without_entity(shape: &StreamShape, entities: &BTreeMap<String, CanonicalSchema>, text: &mut String) {
    let known: Vec<&str> = entities.keys().map(String::as_str).collect();
    let _ = writeln!(text, "    # entity:   # one of {}, or a new file of the schemas folder", known.join(", "));
    let _ = writeln!(text, "    # key: []   # canonical fields; the source tells rows apart by {}", identity(shape));
    text.push_str("    map:\n");
    for column in &shape.columns {
        let _ = writeln!(text, "      # canonical_field: {}   # {}", scalar(&sql_name(&column.name)), remark(column));
    }
}

fn identity(shape: &StreamShape) -> String {
    if shape.identity.is_empty() { "nothing: it has no key".to_owned() } else { shape.identity.join(", ") }
}

/// The source's type and its remark, in one line.
fn remark(column: &Column) -> String {
    let comment = column.comment.as_ref().map(|comment| format!("; {}", comment.replace('\n', " "))).unwrap_or_default();
    format!("{}{comment}", column.source_type)
}

/// An expression that fits the field's type.
fn expression(field: &CanonicalField, column: &Column, from: &DataType) -> String {
    let name = sql_name(&column.name);
    let legacy = column.comment.as_deref().unwrap_or_default().to_lowercase();
    let name = match (legacy.contains("tcvn3"), legacy.contains("vni")) {
        (true, _) => format!("from_tcvn3({name})"),
        (false, true) => format!("from_vni({name})"),
        _ => name,
    };
    let is_text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let text = if is_text { name.clone() } else { format!("CAST({name} AS TEXT)") };
    if let Some(list) = field.codes() {
        return format!("code('{list}', {text})");
    }
    match field.data_type() {
        DataType::Utf8 if field.name().ends_with("personal_id") || field.name() == "applicant_id" => format!("personal_id({text})"),
        DataType::Utf8 if field.name().ends_with("agency_code") => format!("agency_code({text})"),
        DataType::Utf8 if field.name().ends_with("tax_code") => format!("tax_code({text})"),
        DataType::Utf8 if field.name().ends_with("phone") => format!("vn_phone({text})"),
        DataType::Utf8 if field.name() == "full_name" => format!("proper_name({text})"),
        DataType::Utf8 => text,
        DataType::Date32 if is_text => format!("vn_date({name})"),
        DataType::Date32 if !matches!(from, DataType::Date32) => format!("CAST({name} AS DATE)"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) if matches!(from, DataType::Timestamp(_, None)) => {
            format!("at_time_zone({name}, 'Asia/Ho_Chi_Minh')")
        }
        DataType::Int32 | DataType::Int64 if is_text => format!("CAST({name} AS BIGINT)"),
        DataType::Decimal128(precision, scale) if from != field.data_type() => {
            format!("CAST({name} AS DECIMAL({precision},{scale}))")
        }
        _ => name,
    }
}

/// A column as SQL names it.
fn sql_name(column: &str) -> String {
    let plain =
        column.chars().enumerate().all(|(at, letter)| letter.is_ascii_lowercase() || letter == '_' || (at > 0 && letter.is_ascii_digit()));
    if plain { column.to_owned() } else { format!("\"{}\"", column.replace('"', "\"\"")) }
}

/// A text as a YAML scalar on one line.
fn scalar(text: &str) -> String {
    let plain =
        text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') && !text.contains(": ") && !text.contains(" #");
    if plain { text.to_owned() } else { quoted_single(text) }
}

fn quoted(text: &str) -> String {
    let plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-'));
    if plain { text.to_owned() } else { quoted_single(text) }
}

fn quoted_single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};
    use hub_model::StreamName;

    use super::*;

    const CITIZEN: &str = r#"{"type":"record","name":"Citizen","namespace":"population","title":{"vi":"Công dân","en":"Citizen"},"doc":"A citizen. Key: personal_id.","fields":[
        {"name":"personal_id","type":"string","title":{"vi":"Số định danh","en":"Personal identifier"},"hub.privacy":"personal","doc":"x"},
        {"name":"full_name","type":"string","title":{"vi":"Họ và tên","en":"Full name"},"hub.privacy":"personal","doc":"x"},
        {"name":"date_of_birth","type":["null",{"type":"int","logicalType":"date"}],"default":null,"title":{"vi":"Ngày sinh","en":"Date of birth"},"hub.privacy":"personal","doc":"x"},
        {"name":"gender","type":["null","string"],"default":null,"title":{"vi":"Giới tính","en":"Gender"},"hub.privacy":"personal","hub.codes":"gender","doc":"x"}]}"#;

    fn shape(table: &str, columns: &[(&str, DataType, Option<u16>, Option<&str>)]) -> StreamShape {
        let fields: Vec<Field> = columns.iter().map(|(name, kind, ..)| Field::new(*name, kind.clone(), true)).collect();
        StreamShape {
            stream: StreamName::new(table).unwrap(),
            schema: Arc::new(Schema::new(fields)),
            columns: columns
                .iter()
                .map(|(name, kind, key, comment)| Column {
                    name: (*name).to_owned(),
                    source_type: kind.to_string().to_lowercase(),
                    nullable: true,
                    key: *key,
                    comment: comment.map(str::to_owned),
                })
                .collect(),
            identity: columns.iter().filter(|(_, _, key, _)| key.is_some()).map(|(name, ..)| (*name).to_owned()).collect(),
            full_images: false,
            rows: None,
            bytes: None,
            findings: Vec::new(),
        }
    }

    fn entities() -> BTreeMap<String, CanonicalSchema> {
        BTreeMap::from([("population.Citizen".to_owned(), CanonicalSchema::parse(CITIZEN).unwrap())])
    }

    #[test]
    fn a_table_with_vietnamese_names_finds_its_entity_and_fields() {
        let table = shape(
            "public.cong_dan",
            &[
                ("id", DataType::Int64, Some(1), None),
                ("so_cccd", DataType::Utf8, None, Some("Số định danh cá nhân")),
                ("HoTen", DataType::Utf8, None, Some("TCVN3")),
                ("ngay_sinh", DataType::Utf8, None, None),
                ("gioi_tinh", DataType::Int16, None, None),
                ("ghi_chu", DataType::Utf8, None, None),
            ],
        );
        let text = drafts(&[&table], &entities());
        assert!(text.contains("    entity: population.Citizen "), "{text}");
        assert!(text.contains("    key: [personal_id] "), "{text}");
        assert!(text.contains("      personal_id: personal_id(so_cccd) "), "{text}");
        assert!(text.contains("      full_name: proper_name(from_tcvn3(\"HoTen\")) "), "{text}");
        assert!(text.contains("      date_of_birth: vn_date(ngay_sinh) "), "{text}");
        assert!(text.contains("      gender: code('gender', CAST(gioi_tinh AS TEXT)) "), "{text}");
        assert!(text.contains("      # not mapped: ghi_chu "), "{text}");
        let parsed = crate::config::yaml::Document::parse(std::path::Path::new("draft"), &text);
        assert!(parsed.is_ok(), "a draft is YAML: {:?}", parsed.err());
    }

    #[test]
    fn names_are_compared_without_the_words_of_their_table() {
        let of = |text: &str| words(text);
        assert_eq!(nearness(&of("Tên cơ quan"), &of("ten"), &of("co_quan")), 100);
        assert_eq!(nearness(&of("Tên cơ quan"), &of("ma_co_quan"), &of("co_quan")), 50);
    }

    #[test]
    fn a_table_like_no_entity_is_left_to_its_engineer() {
        let table = shape("public.\"Lịch\"", &[("ca", DataType::Utf8, None, None)]);
        let text = drafts(&[&table], &entities());
        assert!(text.contains("  - source: 'public.\"Lịch\"'"), "{text}");
        assert!(text.contains("    # entity: ") && text.contains("      # canonical_field: ca "), "{text}");
    }
}
