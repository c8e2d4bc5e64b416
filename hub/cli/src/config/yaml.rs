//! YAML as a tree in which every value knows its line and column, so that each fault can be shown in its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// A place in a file, counted from 1. `0:0` is the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: PathBuf,
    /// Line from 1.
    pub(crate) line: u64,
    /// Column from 1.
    pub(crate) column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A value with its position.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The value.
    pub(crate) kind: Kind,
    line: u64,
    column: u64,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Anything but a list or a mapping.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the file's order.
    Mapping(Vec<(Key, Node)>),
}

/// A key with its position.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The key.
    pub(crate) text: String,
    line: u64,
    column: u64,
}

/// A file that is YAML at least.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Where it was read.
    pub(crate) file: PathBuf,
    /// Its content.
    pub(crate) root: Node,
    text: Arc<str>,
}

impl Document {
    /// Parses `text` of `file`.
    ///
    /// # Errors
    /// The place and the parser's words when it is no YAML.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, (Place, String)> {
        // A key that is given twice is a fault among others, told by `schema`: it must not hide the rest of the file.
        let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
        let parsed: Result<Spanned<Content>, _> = serde_saphyr::from_str_with_options(text, options);
        match parsed {
            Ok(content) => Ok(Self { file: file.to_owned(), root: Node::from(content), text: text.into() }),
            Err(error) => {
                let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
                let message = error.to_string();
                let first = message.lines().next().unwrap_or("not YAML").to_owned();
                Err((Place { file: file.to_owned(), line, column }, first))
            }
        }
    }

    /// The same file with what of its content could be read.
    #[must_use]
    pub(crate) fn with_root(&self, root: Node) -> Self {
        Self { root, ..self.clone() }
    }

    /// The place of the first character of a text, behind the quote or the sign of a block.
    #[must_use]
    pub(crate) fn text_place(&self, node: &Node) -> Place {
        let mut place = self.place(node);
        let line = |number: u64| self.text.lines().nth(usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX));
        let first =
            line(place.line).and_then(|line| line.chars().nth(usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX)));
        match first {
            Some('"' | '\'') => place.column += 1,
            Some('|' | '>') => {
                let indent = line(place.line + 1).map_or(0, |line| line.chars().take_while(|letter| *letter == ' ').count());
                (place.line, place.column) = (place.line + 1, indent as u64 + 1);
            }
            _ => {}
        }
        place
    }

    /// The place of a node of this document.
    #[must_use]
    pub(crate) fn place(&self, node: &Node) -> Place {
        Place { file: self.file.clone(), line: node.line, column: node.column }
    }

    /// The place of a key of this document.
    #[must_use]
    pub(crate) fn key_place(&self, key: &Key) -> Place {
        Place { file: self.file.clone(), line: key.line, column: key.column }
    }

    /// The place of what a JSON pointer names, or of the nearest parent that exists.
    #[must_use]
    pub(crate) fn locate(&self, pointer: &str) -> Place {
        let mut node = &self.root;
        for part in pointer.split('/').filter(|part| !part.is_empty()) {
            match node.child(part) {
                Some(next) => node = next,
                None => break,
            }
        }
        self.place(node)
    }
}

impl Key {
    /// The same key in other letters.
    #[must_use]
    pub(crate) fn spelt(&self, text: &str) -> Self {
        Self { text: text.to_owned(), ..*self }
    }
}

impl Node {
    /// Another value in the same place.
    #[must_use]
    pub(crate) fn holding(&self, kind: Kind) -> Self {
        Self { kind, ..*self }
    }

    /// Its text, if it is one.
    #[must_use]
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A child by key or by index.
    #[must_use]
    pub(crate) fn child(&self, part: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::List(items) => items.get(part.parse::<usize>().ok()?),
            Kind::Mapping(entries) => entries.iter().find(|(key, _)| key.text == part).map(|(_, node)| node),
        }
    }

    /// The same value without positions.
    #[must_use]
    pub(crate) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Mapping(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.value())).collect::<Map<_, _>>())
            }
        }
    }
}

enum Content {
    Scalar(Value),
    List(Vec<Spanned<Content>>),
    Mapping(Vec<(Spanned<String>, Spanned<Content>)>),
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        let kind = match spanned.value {
            Content::Scalar(value) => Kind::Scalar(value),
            Content::List(items) => Kind::List(items.into_iter().map(Self::from).collect()),
            Content::Mapping(entries) => Kind::Mapping(
                entries
                    .into_iter()
                    .map(|(key, node)| {
                        let (line, column) = (key.referenced.line(), key.referenced.column());
                        (Key { text: key.value, line, column }, Self::from(node))
                    })
                    .collect(),
            ),
        };
        Self { kind, line, column }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Content::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_value_and_key_knows_its_place() {
        let text = "system: mot-cua\nstreams:\n  - source: public.ho_so\n    keey: [code]\n";
        let document = Document::parse(Path::new("s.yaml"), text).unwrap();
        assert_eq!(document.locate("/streams/0/source").to_string(), "s.yaml:3:13");
        let Kind::Mapping(entries) = &document.root.child("streams").unwrap().child("0").unwrap().kind else {
            unreachable!("a mapping");
        };
        assert_eq!(document.key_place(&entries[1].0).to_string(), "s.yaml:4:5");
        assert_eq!(document.root.value()["streams"][0]["keey"][0], "code");
    }

    #[test]
    fn a_text_begins_behind_its_quote_or_in_the_line_after_its_sign() {
        let text = "a: x\nb: \"x\"\nc: 'x'\nd: |\n    x\n";
        let document = Document::parse(Path::new("s.yaml"), text).unwrap();
        let places: Vec<String> =
            ["a", "b", "c", "d"].map(|key| document.text_place(document.root.child(key).unwrap()).to_string()).to_vec();
        assert_eq!(places, ["s.yaml:1:4", "s.yaml:2:5", "s.yaml:3:5", "s.yaml:5:5"]);
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        let (place, message) = Document::parse(Path::new("s.yaml"), "a: [1, 2\nb: }").unwrap_err();
        assert!(place.line >= 1 && !message.is_empty());
    }
}
