//! Avro schemas as a registry needs them: every attribute kept, names resolved, places named.
//!
//! A [`Schema`] is an arena of nodes, so recursive types are plain indices and a type defined in a referenced schema is
//! the same node wherever it is used. It is parsed from JSON text ([`Schema::parse`]), printed in the form that decides
//! identity ([`Schema::canonical`], [`Schema::normal`]), and compared by [`crate::compat`].

mod default;
mod parse;
mod print;

use serde_json::Value;

/// A parsed Avro schema. Small: a few hundred bytes a field.
#[derive(Clone, Debug)]
pub struct Schema {
    nodes: Vec<Node>,
    root: NodeId,
    /// Full names that referenced schemas define; they are not printed in full.
    external: Vec<String>,
}

/// Why a text is not a usable Avro schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at {path})")]
pub struct SchemaError {
    /// Where in the schema, as a JSON pointer; `/` is the whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Place of a node in its schema's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(usize);

/// One type, with what it carries beside its kind.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The attributes that Avro does not define (`logicalType` among them), in the order of the text.
    pub(crate) props: Vec<(String, Value)>,
}

/// The kinds of Avro types.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
    Enum(Enum),
    Fixed(Fixed),
}

/// What the three named kinds have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) name: Name,
    pub(crate) aliases: Vec<Name>,
    pub(crate) doc: Option<String>,
}

/// A name and its namespace; an empty namespace is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) simple: String,
    pub(crate) space: String,
}

/// A record or, with `error`, an error.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) naming: Naming,
    pub(crate) fields: Vec<Field>,
    pub(crate) error: bool,
}

/// One field of a record.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) doc: Option<String>,
    pub(crate) default: Option<Value>,
    pub(crate) order: Order,
    pub(crate) schema: NodeId,
    pub(crate) props: Vec<(String, Value)>,
}

/// How a field counts when records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
    Ignore,
}

/// An enumeration.
#[derive(Clone, Debug)]
pub(crate) struct Enum {
    pub(crate) naming: Naming,
    pub(crate) symbols: Vec<String>,
    pub(crate) default: Option<String>,
}

/// Bytes of one length.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    pub(crate) naming: Naming,
    pub(crate) size: u64,
}

impl Schema {
    pub(crate) const fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        // Ids are made by the parser of this very arena and never leave it.
        &self.nodes[id.0]
    }
}

impl Node {
    /// The attribute `logicalType`.
    pub(crate) fn logical(&self) -> Option<&str> {
        self.prop("logicalType").and_then(Value::as_str)
    }

    pub(crate) fn prop(&self, name: &str) -> Option<&Value> {
        self.props.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl Kind {
    /// The kind's name as Confluent's messages write it.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Boolean => "BOOLEAN",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Float => "FLOAT",
            Self::Double => "DOUBLE",
            Self::Bytes => "BYTES",
            Self::String => "STRING",
            Self::Array(_) => "ARRAY",
            Self::Map(_) => "MAP",
            Self::Union(_) => "UNION",
            Self::Record(_) => "RECORD",
            Self::Enum(_) => "ENUM",
            Self::Fixed(_) => "FIXED",
        }
    }

    /// The word for it in a schema; named kinds and unions have none.
    pub(crate) const fn primitive(&self) -> Option<&'static str> {
        Some(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            _ => return None,
        })
    }

    pub(crate) fn from_primitive(word: &str) -> Option<Self> {
        Some(match word {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    pub(crate) const fn naming(&self) -> Option<&Naming> {
        match self {
            Self::Record(record) => Some(&record.naming),
            Self::Enum(symbols) => Some(&symbols.naming),
            Self::Fixed(fixed) => Some(&fixed.naming),
            _ => None,
        }
    }
}

impl Name {
    /// Reads `name` or `name.space.name`; a name without dots is in `space`.
    pub(crate) fn within(text: &str, space: &str) -> Self {
        match text.rsplit_once('.') {
            Some((space, simple)) => Self { simple: simple.to_owned(), space: space.to_owned() },
            None => Self { simple: text.to_owned(), space: space.to_owned() },
        }
    }

    pub(crate) fn full(&self) -> String {
        if self.space.is_empty() { self.simple.clone() } else { format!("{}.{}", self.space, self.simple) }
    }

    /// The shortest way to write it where `space` is the enclosing namespace.
    pub(crate) fn seen_from(&self, space: &str) -> String {
        // Without its namespace a type called `int` would be read as the primitive.
        if self.space == space && Kind::from_primitive(&self.simple).is_none() { self.simple.clone() } else { self.full() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.full())
    }
}
