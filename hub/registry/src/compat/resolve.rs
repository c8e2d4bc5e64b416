//! Avro's schema resolution: can a reader with one schema read what was written with another?

use std::collections::{HashMap, HashSet};

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
            Reason::FixedSizeMismatch => {
                format!("The size of FIXED type field at path '{path}' in the {reader} schema does not match with the {writer} schema")
            }
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
/// Pairs of types that one judgement may look at. Far more than any schema in use; it bounds what a hostile one can cost.
const MAX_STEPS: usize = 500_000;

pub(super) fn differences(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    let mut comparison = Comparison {
        reader,
        writer,
        known: HashMap::new(),
        fitting: Vec::new(),
        reported: HashSet::new(),
        found: Vec::new(),
        path: Vec::new(),
        depth: 0,
        steps: 0,
        probing: 0,
    };
    comparison.compare(reader.root(), writer.root());
    comparison.found
}

type Pair = (NodeId, NodeId);

/// A comparison under way. Each step says whether the two types fit, and reports what does not, once a pair of types.
struct Comparison<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Pairs that were compared, or are being compared and are taken to fit until shown otherwise (recursive types).
    known: HashMap<Pair, bool>,
    /// Pairs that are taken to fit, in the order in which their comparison began.
    fitting: Vec<Pair>,
    reported: HashSet<Pair>,
    found: Vec<Incompatibility>,
    path: Vec<String>,
    depth: usize,
    steps: usize,
    /// Above 0 while a union's branches are tried: whether one fits is the question, not why another does not.
    probing: usize,
}

impl Comparison<'_> {
    fn compare(&mut self, reader: NodeId, writer: NodeId) -> bool {
        let pair = (reader, writer);
        match self.known.get(&pair) {
            Some(true) => return true,
            Some(false) if self.probing > 0 || self.reported.contains(&pair) => return false,
            _ => {}
        }
        self.steps += 1;
        if self.depth == MAX_DEPTH || self.steps > MAX_STEPS {
            return self.report(Reason::TypeMismatch, "types too deep or too many to be compared".to_owned());
        }
        if self.probing == 0 {
            self.reported.insert(pair);
        }
        let mark = self.fitting.len();
        if self.known.insert(pair, true).is_none() {
            self.fitting.push(pair);
        }
        self.depth += 1;
        let fits = self.resolve(reader, writer);
        self.depth -= 1;
        if !fits {
            // What was found to fit meanwhile may have rested on this pair fitting.
            for refuted in self.fitting.drain(mark..) {
                self.known.remove(&refuted);
            }
            self.known.insert(pair, false);
        }
        fits
    }

    fn resolve(&mut self, reader: NodeId, writer: NodeId) -> bool {
        let (read, write) = (self.reader.node(reader), self.writer.node(writer));
        match (&read.kind, &write.kind) {
            (Kind::Union(_), Kind::Union(branches)) => self.each_branch(reader, branches),
            (_, Kind::Union(branches)) => self.all(branches, |comparison, branch| comparison.compare(reader, *branch)),
            (Kind::Union(branches), written) => {
                let fits = self.probe(|comparison| branches.iter().any(|branch| comparison.compare(*branch, writer)));
                fits || self.report(Reason::MissingUnionBranch, format!("reader union lacking writer type: {}", written.label()))
            }
            (Kind::Record(read), Kind::Record(write)) => self.records(read, write),
            (Kind::Enum(read), Kind::Enum(write)) => self.enums(read, write),
            (Kind::Fixed(reads), Kind::Fixed(writes)) => self.fixed((read, reads), (write, writes)),
            (Kind::Array(read), Kind::Array(write)) => self.within("items", *read, *write),
            (Kind::Map(read), Kind::Map(write)) => self.within("values", *read, *write),
            _ => self.primitives(read, write),
        }
    }

    /// Every branch that the writer may write must be read; one that is not is named by its number.
    fn each_branch(&mut self, reader: NodeId, branches: &[NodeId]) -> bool {
        let numbered: Vec<(usize, NodeId)> = branches.iter().copied().enumerate().collect();
        self.all(&numbered, |comparison, (index, branch)| {
            if comparison.probe(|comparison| comparison.compare(reader, *branch)) {
                return true;
            }
            let label = comparison.writer.node(*branch).kind.label();
            comparison.report_at(index.to_string(), Reason::MissingUnionBranch, format!("reader union lacking writer type: {label}"))
        })
    }

    fn records(&mut self, reader: &Record, writer: &Record) -> bool {
        let named = self.names(&reader.naming, &writer.naming);
        if !named && self.probing > 0 {
            return false;
        }
        let written: HashMap<&str, NodeId> = writer.fields.iter().map(|field| (field.name.as_str(), field.schema)).collect();
        let numbered: Vec<(usize, &Field)> = reader.fields.iter().enumerate().collect();
        let fields = self.all(&numbered, |comparison, (index, field)| match source_of(field, &written) {
            Some(source) => comparison.within(&format!("fields/{index}/type"), field.schema, source),
            None if field.default.is_some() => true,
            None => comparison.report_at(format!("fields/{index}"), Reason::ReaderFieldMissingDefaultValue, field.name.clone()),
        });
        named && fields
    }

    fn enums(&mut self, reader: &Enum, writer: &Enum) -> bool {
        let named = self.names(&reader.naming, &writer.naming);
        if reader.default.is_some() {
            return named;
        }
        let held: HashSet<&str> = reader.symbols.iter().map(String::as_str).collect();
        let missing: Vec<&str> = writer.symbols.iter().map(String::as_str).filter(|symbol| !held.contains(symbol)).collect();
        let complete =
            missing.is_empty() || self.report_at("symbols".to_owned(), Reason::MissingEnumSymbols, format!("[{}]", missing.join(", ")));
        named && complete
    }

    fn fixed(&mut self, (read, reader): (&Node, &Fixed), (write, writer): (&Node, &Fixed)) -> bool {
        let named = self.names(&reader.naming, &writer.naming);
        let sized = reader.size == writer.size
            || self.report_at("size".to_owned(), Reason::FixedSizeMismatch, format!("expected: {}, found: {}", writer.size, reader.size));
        let meant = self.logical(read, write);
        named && sized && meant
    }

    /// Names match without their namespaces, or where an alias of the reader is the writer's full name.
    fn names(&mut self, reader: &Naming, writer: &Naming) -> bool {
        reader.name.simple == writer.name.simple
            || reader.aliases.contains(&writer.name)
            || self.report_at("name".to_owned(), Reason::NameMismatch, format!("expected: {}", writer.name))
    }

    fn primitives(&mut self, read: &Node, write: &Node) -> bool {
        let same = std::mem::discriminant(&read.kind) == std::mem::discriminant(&write.kind);
        if !same && !promotes(&write.kind, &read.kind) {
            let detail = format!("reader type: {} not compatible with writer type: {}", read.kind.label(), write.kind.label());
            return self.report(Reason::TypeMismatch, detail);
        }
        self.logical(read, write)
    }

    /// Two logical types over the same bytes that mean different values: a timestamp in micros read as millis is off by a
    /// thousand. A logical type against none is left alone: that is how one is added to a field.
    fn logical(&mut self, read: &Node, write: &Node) -> bool {
        let (Some(reads), Some(writes)) = (logical(read), logical(write)) else { return true };
        let detail = || format!("reader logical type: {reads} not compatible with writer logical type: {writes}");
        reads.holds(&writes) || self.report(Reason::TypeMismatch, detail())
    }

    fn within(&mut self, step: &str, reader: NodeId, writer: NodeId) -> bool {
        self.path.push(step.to_owned());
        let fits = self.compare(reader, writer);
        self.path.pop();
        fits
    }

    /// Whether all fit: all are looked at, for the report, unless only the answer counts.
    fn all<T>(&mut self, items: &[T], mut fits: impl FnMut(&mut Self, &T) -> bool) -> bool {
        let mut all = true;
        for item in items {
            all &= fits(self, item);
            if !all && self.probing > 0 {
                break;
            }
        }
        all
    }

    fn probe(&mut self, fits: impl FnOnce(&mut Self) -> bool) -> bool {
        self.probing += 1;
        let answer = fits(self);
        self.probing -= 1;
        answer
    }

    /// Notes a difference here. Always false, so that it can stand for the answer.
    fn report(&mut self, reason: Reason, detail: String) -> bool {
        if self.probing == 0 {
            self.found.push(Incompatibility { reason, path: format!("/{}", self.path.join("/")), detail });
        }
        false
    }

    fn report_at(&mut self, step: String, reason: Reason, detail: String) -> bool {
        self.path.push(step);
        self.report(reason, detail);
        self.path.pop();
        false
    }
}

/// The writer's field that fills a field of the reader's: by name, else by the reader's aliases.
fn source_of(field: &Field, written: &HashMap<&str, NodeId>) -> Option<NodeId> {
    let named = |name: &str| written.get(name).copied();
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
            "time-micros"
            | "timestamp-millis"
            | "timestamp-micros"
            | "timestamp-nanos"
            | "local-timestamp-millis"
            | "local-timestamp-micros"
            | "local-timestamp-nanos",
            Kind::Long,
        )
        | ("uuid", Kind::String | Kind::Fixed(_))
        | ("duration", Kind::Fixed(_)) => Some(Logical::Named(name)),
        _ => None,
    }
}
