//! Avro's resolution rules, case by case, and the seven levels over them.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use super::*;

fn parse(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

/// `reason path detail` of every difference.
fn found(reader: &str, writer: &str) -> Vec<String> {
    let found = differences(&parse(reader), &parse(writer));
    found.iter().map(|one| format!("{} {} {}", one.reason.as_str(), one.path, one.detail)).collect()
}

#[track_caller]
fn fits(reader: &str, writer: &str) {
    assert_eq!(found(reader, writer), Vec::<String>::new(), "reader {reader}, writer {writer}");
}

#[track_caller]
fn differs(reader: &str, writer: &str, expected: &[&str]) {
    assert_eq!(found(reader, writer), expected, "reader {reader}, writer {writer}");
}

#[test]
fn every_primitive_reads_itself_and_what_avro_promotes_to_it_and_nothing_else() {
    let words = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    let promotions = [
        ("int", "long"),
        ("int", "float"),
        ("int", "double"),
        ("long", "float"),
        ("long", "double"),
        ("float", "double"),
        ("string", "bytes"),
        ("bytes", "string"),
    ];
    for writer in words {
        for reader in words {
            let (read, write) = (format!("\"{reader}\""), format!("\"{writer}\""));
            if reader == writer || promotions.contains(&(writer, reader)) {
                fits(&read, &write);
            } else {
                let said = format!(
                    "TYPE_MISMATCH / reader type: {} not compatible with writer type: {}",
                    reader.to_uppercase(),
                    writer.to_uppercase()
                );
                differs(&read, &write, &[&said]);
            }
        }
    }
}

#[test]
fn containers_are_compared_within() {
    let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    let map = |values: &str| format!(r#"{{"type":"map","values":{values}}}"#);
    fits(&array("\"long\""), &array("\"int\""));
    fits(&map("\"double\""), &map("\"float\""));
    differs(&array("\"int\""), &array("\"long\""), &["TYPE_MISMATCH /items reader type: INT not compatible with writer type: LONG"]);
    differs(&map("\"int\""), &map("\"string\""), &["TYPE_MISMATCH /values reader type: INT not compatible with writer type: STRING"]);
    differs(&array("\"int\""), &map("\"int\""), &["TYPE_MISMATCH / reader type: ARRAY not compatible with writer type: MAP"]);
}

#[test]
fn a_field_is_matched_by_name_then_by_the_readers_aliases_and_else_needs_a_default() {
    let (one, two) = (record(r#"{"name":"a","type":"int"}"#), record(r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#));
    fits(&one, &two);
    differs(&two, &one, &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/1 b"]);
    fits(&record(r#"{"name":"a","type":"int"},{"name":"b","type":["null","int"],"default":null}"#), &one);
    fits(&record(r#"{"name":"aa","type":"long","aliases":["a"]}"#), &one);
    // An alias of the writer's says nothing.
    differs(&one, &record(r#"{"name":"aa","type":"int","aliases":["a"]}"#), &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/0 a"]);
    differs(
        &record(r#"{"name":"z","type":"int"},{"name":"a","type":"string"}"#),
        &one,
        &[
            "READER_FIELD_MISSING_DEFAULT_VALUE /fields/0 z",
            "TYPE_MISMATCH /fields/1/type reader type: STRING not compatible with writer type: INT",
        ],
    );
}

#[test]
fn named_types_match_without_namespace_or_by_the_readers_alias() {
    let named = |name: &str, rest: &str| format!(r#"{{"type":"record","name":"{name}","fields":[]{rest}}}"#);
    fits(&named("a.R", ""), &named("b.R", ""));
    differs(&named("a.S", ""), &named("a.R", ""), &["NAME_MISMATCH /name expected: a.R"]);
    fits(&named("a.S", r#","aliases":["R"]"#), &named("a.R", ""));
    differs(&named("a.S", r#","aliases":["b.R"]"#), &named("a.R", ""), &["NAME_MISMATCH /name expected: a.R"]);
    let fixed = |name: &str, size: u8| format!(r#"{{"type":"fixed","name":"{name}","size":{size}}}"#);
    fits(&fixed("F", 2), &fixed("F", 2));
    differs(&fixed("F", 2), &fixed("F", 4), &["FIXED_SIZE_MISMATCH /size expected: 4, found: 2"]);
    differs(&fixed("F", 2), &fixed("G", 4), &["NAME_MISMATCH /name expected: G", "FIXED_SIZE_MISMATCH /size expected: 4, found: 2"]);
}

#[test]
fn an_enum_needs_the_writers_symbols_or_a_default() {
    let symbols = |list: &str, rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":{list}{rest}}}"#);
    let abc = symbols(r#"["A","B","C"]"#, "");
    fits(&abc, &symbols(r#"["C","A"]"#, ""));
    differs(&symbols(r#"["A"]"#, ""), &abc, &["MISSING_ENUM_SYMBOLS /symbols [B, C]"]);
    fits(&symbols(r#"["A"]"#, r#","default":"A""#), &abc);
    // The default of the writer's helps nobody.
    differs(&symbols(r#"["A"]"#, ""), &symbols(r#"["A","B"]"#, r#","default":"A""#), &["MISSING_ENUM_SYMBOLS /symbols [B]"]);
}

#[test]
fn unions_are_compared_branch_by_branch() {
    fits(r#"["null","string"]"#, r#""string""#);
    fits(r#"["null","long"]"#, r#""int""#);
    fits(r#""string""#, r#"["string"]"#);
    fits(r#"["string","null"]"#, r#"["null","string"]"#);
    fits(r#""double""#, r#"["int","long"]"#);
    differs(r#"["null","string"]"#, r#""int""#, &["MISSING_UNION_BRANCH / reader union lacking writer type: INT"]);
    differs(
        r#"["null","string"]"#,
        r#"["null","int","string","boolean"]"#,
        &[
            "MISSING_UNION_BRANCH /1 reader union lacking writer type: INT",
            "MISSING_UNION_BRANCH /3 reader union lacking writer type: BOOLEAN",
        ],
    );
    differs(r#""string""#, r#"["null","string"]"#, &["TYPE_MISMATCH / reader type: STRING not compatible with writer type: NULL"]);
    differs(r#"[]"#, r#""int""#, &["MISSING_UNION_BRANCH / reader union lacking writer type: INT"]);
}

#[test]
fn logical_types_that_would_be_misread_differ_and_adding_one_does_not() {
    let long = |logical: &str| format!(r#"{{"type":"long","logicalType":"{logical}"}}"#);
    let decimal =
        |precision: u8, scale: u8| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#);
    fits(&long("timestamp-millis"), "\"long\"");
    fits("\"long\"", &long("timestamp-millis"));
    fits(&long("my-own-type"), &long("timestamp-millis"));
    differs(
        &long("timestamp-millis"),
        &long("timestamp-micros"),
        &["TYPE_MISMATCH / reader logical type: timestamp-millis not compatible with writer logical type: timestamp-micros"],
    );
    differs(
        &long("timestamp-millis"),
        r#"{"type":"int","logicalType":"date"}"#,
        &["TYPE_MISMATCH / reader logical type: timestamp-millis not compatible with writer logical type: date"],
    );
    fits(&decimal(14, 2), &decimal(14, 2));
    fits(&decimal(16, 2), &decimal(14, 2));
    differs(
        &decimal(12, 2),
        &decimal(14, 2),
        &["TYPE_MISMATCH / reader logical type: decimal(12, 2) not compatible with writer logical type: decimal(14, 2)"],
    );
    differs(
        &decimal(14, 3),
        &decimal(14, 2),
        &["TYPE_MISMATCH / reader logical type: decimal(14, 3) not compatible with writer logical type: decimal(14, 2)"],
    );
}

#[test]
fn nested_records_carry_their_path() {
    let outer = |inner: &str| {
        record(&format!(
            r#"{{"name":"list","type":{{"type":"array","items":["null",{{"type":"record","name":"I","fields":[{inner}]}}]}}}}"#
        ))
    };
    differs(
        &outer(r#"{"name":"x","type":"int"},{"name":"y","type":"int"}"#),
        &outer(r#"{"name":"x","type":"int"}"#),
        &["MISSING_UNION_BRANCH /fields/0/type/items/1 reader union lacking writer type: RECORD"],
    );
    let plain = |inner: &str| record(&format!(r#"{{"name":"i","type":{{"type":"record","name":"I","fields":[{inner}]}}}}"#));
    differs(
        &plain(r#"{"name":"x","type":"int"},{"name":"y","type":"int"}"#),
        &plain(r#"{"name":"x","type":"int"}"#),
        &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/0/type/fields/1 y"],
    );
}

#[test]
fn recursive_types_are_compared_to_their_end() {
    let list =
        |value: &str, more: &str| record(&format!(r#"{{"name":"value","type":"{value}"}},{{"name":"next","type":["null","R"]}}{more}"#));
    fits(&list("long", ""), &list("int", ""));
    differs(&list("int", ""), &list("long", ""), &["TYPE_MISMATCH /fields/0/type reader type: INT not compatible with writer type: LONG"]);
    differs(&list("int", r#",{"name":"n","type":"int"}"#), &list("int", ""), &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/2 n"]);
}

#[test]
fn what_rested_on_a_refuted_recursion_is_compared_again() {
    // A and B refer to each other. While A is compared B is taken to fit; A does not, so B must not stay "fits".
    let text = |extra: &str| {
        format!(
            r#"{{"type":"record","name":"Top","fields":[
                {{"name":"u","type":["null",{{"type":"record","name":"A","fields":[
                    {{"name":"b","type":["null",{{"type":"record","name":"B","fields":[{{"name":"a","type":"A"}}]}}]}}{extra}]}}]}},
                {{"name":"b","type":"B"}}]}}"#
        )
    };
    let said = found(&text(r#",{"name":"new","type":"int"}"#), &text(""));
    assert!(said.iter().any(|one| one.starts_with("MISSING_UNION_BRANCH /fields/0/type/1")), "{said:?}");
    assert!(said.iter().any(|one| one.ends_with(" new")), "{said:?}");
}

#[test]
fn a_hostile_schema_costs_little_and_ends_with_a_message() {
    let chained = |index: usize| match index {
        0 => r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
        _ => format!(r#"{{"type":"record","name":"R{index}","fields":[{{"name":"a","type":"R{}"}}]}}"#, index - 1),
    };
    // Small ones are compared to their end, every branch with every other.
    let small = parse(&format!("[{}]", (0..100).map(chained).collect::<Vec<_>>().join(",")));
    assert!(differences(&small, &small).is_empty());
    // Entered at its end, a long chain would need a stack as deep as it is long.
    let long: Vec<String> = (0..2_000).map(chained).collect();
    let referenced = format!("[{}]", long.join(","));
    let top = r#"{"type":"record","name":"Top","fields":[{"name":"top","type":"R1999"}]}"#;
    let schema = Schema::parse(top, &[&referenced]).unwrap();
    let said = differences(&schema, &schema);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].detail, "types too deep or too many to be compared");
}

#[test]
fn messages_are_confluents() {
    let (new, old) = (record(r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#), record(r#"{"name":"a","type":"int"}"#));
    let (parsed_new, parsed_old) = (parse(&new), parse(&old));
    let earlier = [Earlier { version: 3, text: &old, schema: &parsed_old }];
    assert_eq!(
        Level::Backward.judge(&parsed_new, &earlier),
        [
            "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at path '/fields/1' in the new schema has no \
             default value and is missing in the old schema', additionalInfo:'b'}"
                .to_owned(),
            "{oldSchemaVersion: 3}".to_owned(),
            format!("{{oldSchema: '{old}'}}"),
            "{validateFields: 'false', compatibility: 'BACKWARD'}".to_owned(),
        ]
    );
}

#[test]
fn each_level_holds_the_new_schema_against_the_right_versions_in_the_right_direction() {
    let v1 = record(r#"{"name":"a","type":"int"}"#);
    let v2 = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int","default":0}"#);
    let v3 = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#);
    let added_plain = record(r#"{"name":"a","type":"int"},{"name":"c","type":"int"}"#);
    let removed_all = record("");
    let parsed = [parse(&v1), parse(&v2)];
    let versions = [Earlier { version: 1, text: &v1, schema: &parsed[0] }, Earlier { version: 2, text: &v2, schema: &parsed[1] }];
    let accepted_by = |new: &str| {
        let new = parse(new);
        let accepted = Level::ALL.into_iter().filter(|level| level.judge(&new, &versions).is_empty());
        accepted.map(Level::as_str).collect::<Vec<_>>()
    };
    // b loses its default: still read from version 2, not from version 1.
    assert_eq!(accepted_by(&v3), ["NONE", "BACKWARD", "FORWARD", "FORWARD_TRANSITIVE", "FULL"]);
    assert_eq!(accepted_by(&v2), Level::ALL.map(Level::as_str));
    assert_eq!(accepted_by(&added_plain), ["NONE", "FORWARD", "FORWARD_TRANSITIVE"]);
    assert_eq!(accepted_by(&removed_all), ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE"]);
    let first = Level::FullTransitive.judge(&parse(&v3), &[]);
    assert!(first.is_empty(), "the first version of a subject fits whatever the level");
}

#[test]
fn levels_are_read_in_either_case_and_nothing_else_is() {
    assert_eq!("full_transitive".parse(), Ok(Level::FullTransitive));
    assert_eq!("Forward".parse(), Ok(Level::Forward));
    assert_eq!("SOMETIMES".parse::<Level>(), Err(UnknownLevel));
}

/// The reasons of ADR 3. When one of them falls, look whether the library can take over.
#[test]
fn the_reasons_against_apache_avros_own_rules_still_hold() {
    use apache_avro::schema_compatibility::SchemaCompatibility;
    let can_read = |reader: &str, writer: &str| {
        let parse = |text: &str| apache_avro::Schema::parse_str(text).unwrap();
        SchemaCompatibility::can_read(&parse(writer), &parse(reader)).is_ok()
    };
    let malformed = || apache_avro::Schema::parse_str(r#"{"type":"record","name":"bad-name","fields":[]}"#).is_err();
    assert!(std::panic::catch_unwind(malformed).is_err(), "its parser panics on a malformed name");

    let (wide, narrow) =
        (r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, r#"{"type":"enum","name":"E","symbols":["A"],"default":"A"}"#);
    assert!(!can_read(narrow, wide), "it ignores an enum's default");
    fits(narrow, wide);

    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":14,"scale":2}"#;
    assert!(!can_read(decimal, decimal), "it cannot judge decimals");
    fits(decimal, decimal);

    let (old, renamed) = (r#"{"type":"record","name":"R","fields":[]}"#, r#"{"type":"record","name":"S","aliases":["R"],"fields":[]}"#);
    assert!(!can_read(renamed, old), "it ignores the aliases of types");
    fits(renamed, old);
}
