//! Avro's schema resolution: can a reader with one schema read what was written with another?

use std::collections::HashMap;
use std::rc::Rc;

use crate::schema::{Enum, Field, Fixed, Kind, Naming, Node, NodeId, Record, Schema};

/// One thing that keeps a reader's schema from reading a writer's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// What kind of thing.
    pub reason: Reason,
    /// Where, as a JSON pointer into the reader's schema; a branch of a writer's union is named by its number.
    pub path: String,
    /// The detail: the missing field, the symbols, the two types.
    pub detail: String,
}

/// The kinds of incompatibility, in Confluent's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Fixed types of different length.
    FixedSizeMismatch,
    /// The writer may write symbols that the reader lacks, and the reader has no default symbol.
    MissingEnumSymbols,
    /// The writer may write a type that no branch of the reader's union reads.
    MissingUnionBranch,
    /// Named types of different names, and no alias of the reader's bridges them.
    NameMismatch,
    /// A reader's field that the writer does not write and that has no default.
    ReaderFieldMissingDefaultValue,
    /// Types that no promotion bridges, or logical types whose values would be misread.
    TypeMismatch,
}

impl Reason {
    /// The word in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FixedSizeMismatch => "FIXED_SIZE_MISMATCH",
            Self::MissingEnumSymbols => "MISSING_ENUM_SYMBOLS",
            Self::MissingUnionBranch => "MISSING_UNION_BRANCH",
            Self::NameMismatch => "NAME_MISMATCH",
            Self::ReaderFieldMissingDefaultValue => "READER_FIELD_MISSING_DEFAULT_VALUE",
            Self::TypeMismatch => "TYPE_MISMATCH",
        }
    }
}

impl Incompatibility {
    /// The message, where the reader's schema is called `reader` (`new` or `old`) and the writer's `writer`.
    #[must_use]
    pub fn message(&self, reader: &str, writer: &str) -> String {
        let Self { reason, path, detail } = self;
        let description = match reason {
            Reason::FixedSizeMismatch => format!(
                "The size of FIXED type field at path '{path}' in the {reader} schema does not match with the {writer} schema"
            ),
            Reason::MissingEnumSymbols => {
                format!("The {reader} schema is missing enum symbols '{detail}' at path '{path}' in the {writer} schema")
            }
            Reason::MissingUnionBranch => {
                format!("The {reader} schema is missing a type inside a union field at path '{path}' in the {writer} schema")
            }
            Reason::NameMismatch => format!("The name of the schema has changed (path '{path}')"),
            Reason::ReaderFieldMissingDefaultValue => format!(
                "The field '{detail}' at path '{path}' in the {reader} schema has no default value and is missing in the {writer} schema"
            ),
            Reason::TypeMismatch => {
                format!("The type (path '{path}') of a field in the {reader} schema does not match with the {writer} schema")
            }
        };
        format!("{{errorType:'{}', description:'{description}', additionalInfo:'{detail}'}}", reason.as_str())
    }
}

/// Types that refer to each other in longer chains than this are not followed: the stack is finite.
const MAX_DEPTH: usize = 256;

pub(super) fn differences(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    let mut comparison = Comparison { reader, writer, known: HashMap::new(), trail: Vec::new(), path: Vec::new(), depth: 0 };
    let found = comparison.compare(reader.root(), writer.root());
    let mut unique: Vec<Incompatibility> = Vec::with_capacity(found.len());
    for incompatibility in found.iter() {
        if !unique.contains(incompatibility) {
            unique.push(incompatibility.clone());
        }
    }
    unique
}

type Found = Rc<Vec<Incompatibility>>;
type Pair = (NodeId, NodeId);

struct Comparison<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Pairs that were compared, or are being compared and are taken to fit until shown otherwise (recursive types).
    known: HashMap<Pair, Found>,
    /// Pairs that were found to fit, in the order in which their comparison began.
    trail: Vec<Pair>,
    path: Vec<String>,
    depth: usize,
}

impl Comparison<'_> {
    fn compare(&mut self, reader: NodeId, writer: NodeId) -> Found {
        let pair = (reader, writer);
        if let Some(found) = self.known.get(&pair) {
            return Rc::clone(found);
        }
        if self.depth == MAX_DEPTH {
            return Rc::new(vec![self.fault(Reason::TypeMismatch, format!("types nested deeper than {MAX_DEPTH} levels"))]);
        }
        self.known.insert(pair, Found::default());
        let mark = self.trail.len();
        self.trail.push(pair);
        self.depth += 1;
        let found = Rc::new(self.resolve(reader, writer));
        self.depth -= 1;
        if !found.is_empty() {
            // What was found to fit meanwhile may have rested on this pair fitting.
            for refuted in self.trail.drain(mark..) {
                self.known.remove(&refuted);
            }
            self.known.insert(pair, Rc::clone(&found));
        }
        found
    }

    fn resolve(&mut self, reader: NodeId, writer: NodeId) -> Vec<Incompatibility> {
        let (read, write) = (self.reader.node(reader), self.writer.node(writer));
        match (&read.kind, &write.kind) {
            (Kind::Union(_), Kind::Union(branches)) => self.every_branch_in_union(reader, branches),
            (_, Kind::Union(branches)) => {
                branches.iter().flat_map(|branch| self.compare(reader, *branch).as_ref().clone()).collect()
            }
            (Kind::Union(branches), written) => {
                if branches.iter().any(|branch| self.compare(*branch, writer).is_empty()) {
                    return Vec::new();
                }
                vec![self.fault(Reason::MissingUnionBranch, format!("reader union lacking writer type: {}", written.label()))]
            }
            (Kind::Record(read), Kind::Record(write)) => self.records(read, write),
            (Kind::Enum(read), Kind::Enum(write)) => self.enums(read, write),
            (Kind::Fixed(reads), Kind::Fixed(writes)) => self.fixed((read, reads), (write, writes)),
            (Kind::Array(read), Kind::Array(write)) => self.within("items", *read, *write),
            (Kind::Map(read), Kind::Map(write)) => self.within("values", *read, *write),
            _ => self.primitives(read, write),
        }
    }

    fn every_branch_in_union(&mut self, reader: NodeId, branches: &[NodeId]) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if !self.compare(reader, *branch).is_empty() {
                self.path.push(index.to_string());
                let label = self.writer.node(*branch).kind.label();
                found.push(self.fault(Reason::MissingUnionBranch, format!("reader union lacking writer type: {label}")));
                self.path.pop();
            }
        }
        found
    }

    fn within(&mut self, step: &str, reader: NodeId, writer: NodeId) -> Vec<Incompatibility> {
        self.path.push(step.to_owned());
        let found = self.compare(reader, writer);
        self.path.pop();
        found.as_ref().clone()
    }

    fn records(&mut self, reader: &Record, writer: &Record) -> Vec<Incompatibility> {
        let mut found = self.names(&reader.naming, &writer.naming);
        for (index, field) in reader.fields.iter().enumerate() {
            match source_of(field, writer) {
                Some(written) => found.extend(self.within(&format!("fields/{index}/type"), field.schema, written.schema)),
                None if field.default.is_some() => {}
                None => {
                    self.path.push(format!("fields/{index}"));
                    found.push(self.fault(Reason::ReaderFieldMissingDefaultValue, field.name.clone()));
                    self.path.pop();
                }
            }
        }
        found
    }

    fn enums(&mut self, reader: &Enum, writer: &Enum) -> Vec<Incompatibility> {
        let mut found = self.names(&reader.naming, &writer.naming);
        if reader.default.is_none() {
            let missing: Vec<&str> =
                writer.symbols.iter().filter(|symbol| !reader.symbols.contains(symbol)).map(String::as_str).collect();
            if !missing.is_empty() {
                self.path.push("symbols".to_owned());
                found.push(self.fault(Reason::MissingEnumSymbols, format!("[{}]", missing.join(", "))));
                self.path.pop();
            }
        }
        found
    }

    fn fixed(&mut self, (read, reader): (&Node, &Fixed), (write, writer): (&Node, &Fixed)) -> Vec<Incompatibility> {
        let mut found = self.names(&reader.naming, &writer.naming);
        if reader.size != writer.size {
            self.path.push("size".to_owned());
            found.push(self.fault(Reason::FixedSizeMismatch, format!("expected: {}, found: {}", writer.size, reader.size)));
            self.path.pop();
        }
        found.extend(self.logical(read, write));
        found
    }

    /// Names match without their namespaces, or where an alias of the reader is the writer's full name.
    fn names(&mut self, reader: &Naming, writer: &Naming) -> Vec<Incompatibility> {
        if reader.name.simple == writer.name.simple || reader.aliases.contains(&writer.name) {
            return Vec::new();
        }
        self.path.push("name".to_owned());
        let fault = self.fault(Reason::NameMismatch, format!("expected: {}", writer.name));
        self.path.pop();
        vec![fault]
    }

    fn primitives(&self, read: &Node, write: &Node) -> Vec<Incompatibility> {
        let same = std::mem::discriminant(&read.kind) == std::mem::discriminant(&write.kind);
        if !same && !promotes(&write.kind, &read.kind) {
            let detail = format!("reader type: {} not compatible with writer type: {}", read.kind.label(), write.kind.label());
            return vec![self.fault(Reason::TypeMismatch, detail)];
        }
        self.logical(read, write)
    }

    /// Two logical types over the same bytes that mean different values: a timestamp in micros read as millis is off by a
    /// thousand. A logical type against none is left alone: that is how one is added to a field.
    fn logical(&self, read: &Node, write: &Node) -> Vec<Incompatibility> {
        let (Some(reads), Some(writes)) = (logical(read), logical(write)) else { return Vec::new() };
        if reads.holds(&writes) {
            return Vec::new();
        }
        let detail = format!("reader logical type: {reads} not compatible with writer logical type: {writes}");
        vec![self.fault(Reason::TypeMismatch, detail)]
    }

    fn fault(&self, reason: Reason, detail: String) -> Incompatibility {
        Incompatibility { reason, path: format!("/{}", self.path.join("/")), detail }
    }
}

/// The writer's field that fills a field of the reader's: by name, else by the reader's aliases.
fn source_of<'a>(field: &Field, writer: &'a Record) -> Option<&'a Field> {
    let named = |name: &str| writer.fields.iter().find(|written| written.name == name);
    named(&field.name).or_else(|| field.aliases.iter().find_map(|alias| named(alias)))
}

/// Avro's promotions.
const fn promotes(from: &Kind, to: &Kind) -> bool {
    matches!(
        (from, to),
        (Kind::Int, Kind::Long | Kind::Float | Kind::Double)
            | (Kind::Long, Kind::Float | Kind::Double)
            | (Kind::Float, Kind::Double)
            | (Kind::String, Kind::Bytes)
            | (Kind::Bytes, Kind::String)
    )
}

/// A logical type that changes what the bytes mean.
#[derive(Debug, PartialEq, Eq)]
enum Logical<'a> {
    Decimal { precision: u64, scale: u64 },
    Named(&'a str),
}

impl Logical<'_> {
    /// True where values written as `other` are read as what they are.
    fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decimal { precision, scale }, Self::Decimal { precision: narrower, scale: same }) => {
                scale == same && precision >= narrower
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Logical<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The node's logical type where Avro knows it and it is valid on this kind; any other is ignored, as Avro asks.
fn logical(node: &Node) -> Option<Logical<'_>> {
    let name = node.logical()?;
    match (name, &node.kind) {
        ("decimal", Kind::Bytes | Kind::Fixed(_)) => {
            let number = |key| node.prop(key).and_then(serde_json::Value::as_u64);
            let (precision, scale) = (number("precision")?, number("scale").unwrap_or(0));
            (precision > 0 && scale <= precision).then_some(Logical::Decimal { precision, scale })
        }
        ("date" | "time-millis", Kind::Int)
        | (
            "time-micros" | "timestamp-millis" | "timestamp-micros" | "timestamp-nanos" | "local-timestamp-millis"
            | "local-timestamp-micros" | "local-timestamp-nanos",
            Kind::Long,
        )
        | ("uuid", Kind::String | Kind::Fixed(_))
        | ("duration", Kind::Fixed(_)) => Some(Logical::Named(name)),
        _ => None,
    }
}
