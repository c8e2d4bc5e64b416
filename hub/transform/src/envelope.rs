//! What a record of a data topic says of itself (op, place in the source's log, bytes of its state), read without decoding it.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, UnionSchema};

/// Bytes before the Avro of a record: a zero and the schema's id.
pub const FRAME: usize = 5;

/// The id of the schema of framed bytes, and what was written by it; `None` for what is not framed.
#[must_use]
pub fn framed(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes.split_first_chunk::<FRAME>() {
        Some(([0, id @ ..], body)) => Some((u32::from_be_bytes(*id), body)),
        _ => None,
    }
}

/// The facts of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The letter of what happened: `r`, `c`, `u`, `d`, `t`.
    pub op: u8,
    /// Where in the source's log.
    pub place: Place,
    /// The state after, as Avro; absent after a delete.
    pub after: Option<&'a [u8]>,
}

/// A place in the source's log: that of the commit, then that of the row. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position of the commit.
    pub commit: u64,
    /// Position of the row.
    pub position: u64,
}

/// How the envelopes of one schema are laid out.
#[derive(Debug)]
pub struct Layout {
    fields: Vec<(Part, Shape)>,
}

/// The parts of an envelope that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    After,
    Source,
    Op,
    Other,
}

/// As much of a schema as it takes to step over its values.
#[derive(Clone, Debug)]
enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A variable-length integer.
    Number,
    /// A length and as many bytes.
    Bytes,
    /// Blocks of items.
    Items(Box<Shape>),
    /// Blocks of texts with values.
    Entries(Box<Shape>),
    /// A branch and its value.
    Union(Vec<Shape>),
    /// Values in order; the name tells `sequence` from the rest.
    Record(Vec<(String, Shape)>),
}

impl Layout {
    /// The layout of an envelope's schema; `None` where the schema is none.
    #[must_use]
    pub fn of(schema: &Schema) -> Option<Self> {
        let mut known = HashMap::new();
        let Schema::Record(envelope) = schema else { return None };
        let mut fields = Vec::with_capacity(envelope.fields.len());
        for field in &envelope.fields {
            let part = match field.name.as_str() {
                "after" => Part::After,
                "source" => Part::Source,
                "op" => Part::Op,
                _ => Part::Other,
            };
            fields.push((part, shape(&field.schema, &mut known)?));
        }
        [Part::After, Part::Source, Part::Op].iter().all(|part| fields.iter().any(|(found, _)| found == part)).then_some(Self { fields })
    }

    /// The layout of an envelope's schema as the registry has it; `None` where it is none.
    #[must_use]
    pub fn parse(schema: &str) -> Option<Self> {
        Self::of(&Schema::parse_str(schema).ok()?)
    }

    /// The facts of one record, whose framing is taken off; `None` where the bytes are not of this layout.
    #[must_use]
    pub fn facts<'a>(&self, body: &'a [u8]) -> Option<Facts<'a>> {
        let mut rest = body;
        let mut facts = Facts { op: 0, place: Place::default(), after: None };
        for (part, shape) in &self.fields {
            match (part, shape) {
                (Part::After, Shape::Union(branches)) => {
                    let branch = branches.get(usize::try_from(number(&mut rest)?).ok()?)?;
                    let start = rest;
                    step(branch, &mut rest)?;
                    let taken = start.get(..start.len() - rest.len())?;
                    facts.after = (!matches!(branch, Shape::Fixed(0))).then_some(taken);
                }
                (Part::Source, Shape::Record(fields)) => facts.place = place(fields, &mut rest)?,
                (Part::Op, Shape::Bytes) => facts.op = *bytes(&mut rest)?.first()?,
                _ => step(shape, &mut rest)?,
            }
        }
        Some(facts)
    }
}

/// Reads `source.sequence`, `["<commit>","<position>"]`, and steps over the rest.
fn place(fields: &[(String, Shape)], rest: &mut &[u8]) -> Option<Place> {
    let mut place = Place::default();
    for (name, shape) in fields {
        match shape {
            Shape::Union(branches) if name == "sequence" => {
                let branch = branches.get(usize::try_from(number(rest)?).ok()?)?;
                if matches!(branch, Shape::Bytes) {
                    place = sequence(bytes(rest)?)?;
                } else {
                    step(branch, rest)?;
                }
            }
            shape => step(shape, rest)?,
        }
    }
    Some(place)
}

fn sequence(text: &[u8]) -> Option<Place> {
    let mut numbers = std::str::from_utf8(text).ok()?.split('"').filter_map(|part| part.parse::<u64>().ok());
    Some(Place { commit: numbers.next()?, position: numbers.next()? })
}

fn shape(schema: &Schema, known: &mut HashMap<Name, Shape>) -> Option<Shape> {
    Some(match schema {
        Schema::Null => Shape::Fixed(0),
        Schema::Boolean => Shape::Fixed(1),
        Schema::Float => Shape::Fixed(4),
        Schema::Double => Shape::Fixed(8),
        Schema::Duration => Shape::Fixed(12),
        Schema::Int
        | Schema::Long
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Shape::Number,
        Schema::Bytes | Schema::String | Schema::BigDecimal | Schema::Uuid => Shape::Bytes,
        Schema::Decimal(decimal) => shape(&decimal.inner, known)?,
        Schema::Array(array) => Shape::Items(Box::new(shape(&array.items, known)?)),
        Schema::Map(map) => Shape::Entries(Box::new(shape(&map.types, known)?)),
        Schema::Union(union) => Shape::Union(branches(union, known)?),
        Schema::Enum(symbols) => named(&symbols.name, Shape::Number, known),
        Schema::Fixed(fixed) => named(&fixed.name, Shape::Fixed(fixed.size), known),
        Schema::Record(record) => {
            let mut fields = Vec::with_capacity(record.fields.len());
            for field in &record.fields {
                fields.push((field.name.clone(), shape(&field.schema, known)?));
            }
            named(&record.name, Shape::Record(fields), known)
        }
        // Canonical entities do not contain themselves: a name stands for what came before it.
        Schema::Ref { name } => known.get(name)?.clone(),
    })
}

fn branches(union: &UnionSchema, known: &mut HashMap<Name, Shape>) -> Option<Vec<Shape>> {
    union.variants().iter().map(|branch| shape(branch, known)).collect()
}

fn named(name: &Name, shape: Shape, known: &mut HashMap<Name, Shape>) -> Shape {
    known.insert(name.clone(), shape.clone());
    shape
}

/// Steps over one value.
fn step(shape: &Shape, rest: &mut &[u8]) -> Option<()> {
    match shape {
        Shape::Fixed(size) => take(rest, *size).map(|_| ()),
        Shape::Number => number(rest).map(|_| ()),
        Shape::Bytes => bytes(rest).map(|_| ()),
        Shape::Items(item) => blocks(rest, |rest| step(item, rest)),
        Shape::Entries(value) => blocks(rest, |rest| {
            bytes(rest)?;
            step(value, rest)
        }),
        Shape::Union(branches) => {
            let branch = usize::try_from(number(rest)?).ok()?;
            step(branches.get(branch)?, rest)
        }
        Shape::Record(fields) => fields.iter().try_for_each(|(_, field)| step(field, rest)),
    }
}

fn blocks(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Option<()>) -> Option<()> {
    loop {
        let count = number(rest)?;
        if count == 0 {
            return Some(());
        }
        if count < 0 {
            let size = usize::try_from(number(rest)?).ok()?;
            take(rest, size)?;
            continue;
        }
        for _ in 0..count {
            item(rest)?;
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(taken)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = usize::try_from(number(rest)?).ok()?;
    take(rest, size)
}

/// Avro's zigzag variable-length integer.
fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
    use std::sync::Arc;

    use crate::CanonicalSchema;
    use crate::encode::{EncodeBatch, Encoder, EncoderInput, Retention, SourceInfo, envelope_schema};
    use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray};
    use hub_model::{Op, Origin, SnapshotMark};

    use super::*;

    const ENTITY: &str = r#"{"type":"record","name":"Fee","namespace":"public_admin","title":{"vi":"Lệ phí","en":"Fee"},"doc":"A fee.","fields":[
        {"name":"code","type":"string","title":{"vi":"Mã","en":"Code"},"hub.privacy":"none","doc":"Its code."},
        {"name":"number","type":["null","long"],"default":null,"title":{"vi":"Số","en":"Number"},"hub.privacy":"none","doc":"Its number."},
        {"name":"fee","type":["null",{"type":"bytes","logicalType":"decimal","precision":14,"scale":2}],"default":null,
         "title":{"vi":"Phí","en":"Fee"},"hub.privacy":"none","doc":"The fee."}]}"#;

    fn encoded(ops: &[Op]) -> (CanonicalSchema, hub_model::Block) {
        let canonical = CanonicalSchema::parse(ENTITY).unwrap();
        let mut encoder = Encoder::new(&EncoderInput {
            canonical: canonical.clone(),
            key: vec!["code".to_owned()],
            value_schema_id: 7,
            key_schema_id: 8,
            source: SourceInfo {
                version: "1".into(),
                connector: "postgresql".into(),
                system: "mot-cua".into(),
                db: "d".into(),
                schema: "public".into(),
                table: "phi".into(),
            },
            topic: "h09.mot-cua.fee".into(),
            retention: Retention::Timed,
            max_record_bytes: usize::MAX,
        })
        .unwrap();
        let count = ops.len();
        let records = RecordBatch::try_new(
            canonical.arrow(),
            vec![
                Arc::new(StringArray::from(vec!["A"; count])),
                Arc::new(Int64Array::from(vec![Some(5); count])),
                Arc::new(Decimal128Array::from(vec![-150; count]).with_precision_and_scale(14, 2).unwrap()),
            ],
        )
        .unwrap();
        let mut origin = Origin::default();
        (0..count).for_each(|row| origin.push(1_000_000, 40, 30 + row as u64, 0, 9));
        let keys = records.project(&[0]).unwrap();
        let batch = EncodeBatch {
            ops,
            records: &records,
            recorded: None,
            old: None,
            old_recorded: None,
            keys: &keys,
            key_changes: &[],
            origin: &origin,
            origin_rows: None,
            snapshot: SnapshotMark::No,
            now_micros: 2_000_000,
        };
        let block = encoder.encode(&batch).unwrap().block;
        (canonical, block)
    }

    #[test]
    fn the_facts_of_a_record_are_found_without_decoding_it() {
        let (canonical, block) = encoded(&[Op::Create, Op::Delete]);
        let schema = Schema::parse_str(&envelope_schema(&canonical, "h09.mot-cua.fee")).unwrap();
        let layout = Layout::of(&schema).unwrap();
        let created = layout.facts(&block.values.row(0)[FRAME..]).unwrap();
        assert_eq!((created.op, created.place), (b'c', Place { commit: 40, position: 30 }));
        // "A", branch 1 and 5, branch 1 and -150 in two bytes.
        assert_eq!(created.after.unwrap(), [2, b'A', 2, 10, 2, 4, 0xff, 0x6a]);
        let deleted = layout.facts(&block.values.row(1)[FRAME..]).unwrap();
        assert_eq!((deleted.op, deleted.place, deleted.after), (b'd', Place { commit: 40, position: 31 }, None));
        assert!(deleted.place > created.place);
    }

    #[test]
    fn bytes_of_another_layout_are_told_apart_from_a_record() {
        let (canonical, block) = encoded(&[Op::Create]);
        let schema = Schema::parse_str(&envelope_schema(&canonical, "t")).unwrap();
        let layout = Layout::of(&schema).unwrap();
        assert_eq!(layout.facts(&block.values.row(0)[FRAME..20]), None, "cut off");
        assert!(Layout::of(&Schema::parse_str("\"string\"").unwrap()).is_none());
    }

    #[test]
    fn framed_bytes_tell_their_schema() {
        assert_eq!(framed(&[0, 0, 0, 1, 2, 9]), Some((258, &[9][..])));
        assert_eq!(framed(b"{}"), None);
    }

    #[test]
    fn numbers_and_blocks_are_stepped_over() {
        let mut rest: &[u8] = &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1];
        assert_eq!(number(&mut rest), Some(i64::MAX));
        assert_eq!(number(&mut rest), Some(-1));
        // A block of two, a block of minus one that tells its size, the end.
        let mut rest: &[u8] = &[4, 2, 4, 1, 2, 6, 0, 99];
        step(&Shape::Items(Box::new(Shape::Number)), &mut rest).unwrap();
        assert_eq!(rest, [99]);
    }
}
