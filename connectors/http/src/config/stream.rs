//! One stream: its request, how an answer is read, and how changes are found.

use std::collections::BTreeMap;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::keyed::{Keys, Lookup, Push};

/// One stream: its request, how an answer is read, and how changes are found.
///
/// In `path`, `query`, `headers` and bodies these stand for values: `{page}` `{offset}` `{size}` `{cursor}` (paging), `{since}` `{until}` (watermark),
/// `{key}` `{key.column}` (look-up, push), `{ticket}` (push), `{token}` (session), `{now}` `{now:%Y%m%d}` `{uuid}` `{signature}` (always). They are escaped as their place asks for. A query parameter, header,
/// form field or JSON member that is nothing but a placeholder without a value is left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpStream {
    /// Path below `base_url`: `/dmdc/1.0/AllCategory`.
    pub path: String,
    /// The method. `POST` where there is a body, else `GET`.
    #[serde(default)]
    pub method: Option<Method>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers of this request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A JSON body. A text that is nothing but `{page}`, `{offset}` or `{size}` becomes a number.
    #[serde(default)]
    pub json: Option<Value>,
    /// An XML body, such as a SOAP envelope.
    #[serde(default)]
    pub xml: Option<String>,
    /// A body of form fields.
    #[serde(default)]
    pub form: Option<BTreeMap<String, String>>,
    /// What `{signature}` is made of: SHA-256, in hexadecimal, of this text, whose placeholders are filled: `"{key} | {now:%Y%m%d} | <secret>"`.
    #[serde(default)]
    pub signature: Option<Secret>,
    /// What answers hold.
    #[serde(default)]
    pub format: Format,
    /// Where the rows are: `/data/items`, `/Envelope/Body/Response/row`. Empty: the document itself.
    #[serde(default)]
    pub rows: String,
    /// The columns that identify a row.
    pub key: Vec<String>,
    /// What an answer that succeeded says, where the status is not enough: `{path: /error_code, equals: "00"}`.
    #[serde(default)]
    pub success: Option<Rule>,
    /// How a list goes on. Left out: it is one answer.
    #[serde(default)]
    pub paging: Option<Paging>,
    /// How changes are found.
    #[serde(default)]
    pub mode: Mode,
    /// Seconds between two looks at this stream. Left out: `every_s` of the system.
    #[serde(default)]
    pub every_s: Option<f64>,
    /// Share of the known rows, per cent, that may be absent at once. More of them stop the stream: a list that is suddenly short is more often an
    /// error than a change. 100 allows everything; fewer than 20 known rows are not guarded.
    #[serde(default = "shrink_guard")]
    pub shrink_guard: u8,
    /// Looks on end that must not see a row before it is deleted: 1 or 2. Left out: 2 where a list has several pages by page or offset, whose rows
    /// move while pages are read, else 1.
    #[serde(default)]
    pub delete_after_looks: Option<u8>,
}

/// One request beside that of a stream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Path below `base_url`, or an address of its own.
    pub path: String,
    /// The method. `POST` where there is a body, else `GET`.
    #[serde(default)]
    pub method: Option<Method>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers of this request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A JSON body.
    #[serde(default)]
    pub json: Option<Value>,
    /// An XML body, such as a SOAP envelope.
    #[serde(default)]
    pub xml: Option<String>,
    /// A body of form fields.
    #[serde(default)]
    pub form: Option<BTreeMap<String, String>>,
    /// What `{signature}` is made of: SHA-256, in hexadecimal, of this text, whose placeholders are filled.
    #[serde(default)]
    pub signature: Option<Secret>,
    /// What its answer holds.
    #[serde(default)]
    pub format: Format,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Sends a body.
    Post,
    /// Sends a body.
    Put,
}

/// What an answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// XML, SOAP among it. Names are without their prefixes.
    Xml,
}

/// What a place of an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where: `/error_code`, `/Envelope/Body/Response/@status`.
    pub path: String,
    /// One word, or a list of those that are as good: `"00"`, `[done, refused]`. Numbers are compared as they are written.
    pub equals: Words,
}

/// One word or several; numbers and truth values as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
pub struct Words(pub Vec<String>);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    One(Word),
    Many(Vec<Word>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Word {
    Text(String),
    Truth(bool),
    Number(serde_json::Number),
}

impl From<Written> for Words {
    fn from(written: Written) -> Self {
        let text = |word| match word {
            Word::Text(text) => text,
            Word::Truth(truth) => truth.to_string(),
            Word::Number(number) => number.to_string(),
        };
        Self(match written {
            Written::One(word) => vec![text(word)],
            Written::Many(words) => words.into_iter().map(text).collect(),
        })
    }
}

impl Rule {
    /// Whether what stands at its place is one of its words.
    pub(crate) fn holds(&self, found: Option<&str>) -> bool {
        found.is_some_and(|found| self.equals.0.iter().any(|word| word == found))
    }
}

/// How a list goes on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Paging {
    /// Pages that are counted.
    Page(ByPage),
    /// Rows that are skipped.
    Offset(ByOffset),
    /// A word in each answer that the next request carries.
    Cursor(ByCursor),
    /// The header `Link: <…>; rel="next"`.
    Link(ByLink),
    /// An address in each answer.
    Next(ByNext),
}

/// Pages that are counted. The list ends with a page that has fewer rows than `size`, or none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByPage {
    /// Query parameter of the page. Left out: `{page}` stands somewhere.
    #[serde(default)]
    pub param: Option<String>,
    /// Number of the first page.
    #[serde(default = "one")]
    pub first: u64,
    /// Rows of a full page. Left out: only a page without rows ends the list, or `pages`.
    #[serde(default)]
    pub size: Option<u64>,
    /// Query parameter of the size. Left out: `{size}` may stand somewhere.
    #[serde(default)]
    pub size_param: Option<String>,
    /// Where an answer says how many pages there are.
    #[serde(default)]
    pub pages: Option<String>,
}

/// Rows that are skipped. The list ends with a page that has fewer rows than `size`, or none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByOffset {
    /// Query parameter of the offset. Left out: `{offset}` stands somewhere.
    #[serde(default)]
    pub param: Option<String>,
    /// Offset of the first row: 1 where rows are counted from 1, as SCIM does.
    #[serde(default)]
    pub first: u64,
    /// Rows of a full page.
    pub size: u64,
    /// Query parameter of the size. Left out: `{size}` may stand somewhere.
    #[serde(default)]
    pub size_param: Option<String>,
    /// Where an answer says how many rows there are in all; it ends the list too.
    #[serde(default)]
    pub total: Option<String>,
}

/// A word in each answer that the next request carries. An answer without it ends the list.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByCursor {
    /// Where it is in an answer: `/paging/next`.
    pub path: String,
    /// Query parameter that carries it. Left out: `{cursor}` stands somewhere.
    #[serde(default)]
    pub param: Option<String>,
    /// What an answer says while there is more, where the last one has a cursor too: `{path: /has_more, equals: true}`.
    #[serde(default)]
    pub more: Option<Rule>,
}

/// The header `Link: <…>; rel="next"`. An answer without it ends the list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByLink {}

/// An address in each answer, whole or relative. An answer without it ends the list. It must be of the same host, for requests carry the login.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByNext {
    /// Where it is: `/links/next`.
    pub path: String,
}

/// How changes are found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mode {
    /// Each look reads the whole list; what differs from what was told is created, updated and deleted.
    #[default]
    Whole,
    /// Each look reads the rows that changed since the last one.
    Watermark(Watermark),
    /// Each key is asked for by a request of its own.
    Lookup(Box<Lookup>),
    /// Each key is submitted once, and asked after until it is done.
    Push(Box<Push>),
}

/// Rows that changed since the last look. `{since}` stands for that time, `{until}` for the time of this look by the hub's clock.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    /// The column that grows whenever its row changes. Left out: the time of the look by the hub's clock.
    #[serde(default)]
    pub field: Option<String>,
    /// How it is written: `%Y-%m-%dT%H:%M:%S%.f` (and the like), `number`, or `text` that sorts as it is.
    #[serde(default = "format")]
    pub format: String,
    /// How `{since}` is written, where that is not `format`.
    #[serde(default)]
    pub send_format: Option<String>,
    /// Query parameter that carries `{since}`. Left out: it stands somewhere.
    #[serde(default)]
    pub param: Option<String>,
    /// What `{since}` is at the first look. Left out: it has no value then.
    #[serde(default)]
    pub start: Option<String>,
    /// Seconds (steps of a number) that a look goes back behind the watermark, for changes that become visible late.
    #[serde(default)]
    pub overlap_s: u64,
    /// Seconds that one request may span, for services that allow no longer ones: a look asks for `{since}` to `{until}` again and again, until now.
    /// Needs `start`, in the form of `format`. Left out: one request up to now.
    #[serde(default)]
    pub window_s: Option<u64>,
    /// Seconds between looks that read everything without `{since}`, so that deletes are found. Left out: never.
    #[serde(default)]
    pub full_every_s: Option<f64>,
}

impl HttpStream {
    /// Its own request.
    pub(crate) fn request(&self) -> Request {
        Request {
            path: self.path.clone(),
            method: self.method,
            query: self.query.clone(),
            headers: self.headers.clone(),
            json: self.json.clone(),
            xml: self.xml.clone(),
            form: self.form.clone(),
            signature: self.signature.clone(),
            format: self.format,
        }
    }

    /// The column that receives the key of a look-up or push.
    pub(crate) fn key_column(&self) -> Option<&str> {
        let named = match &self.mode {
            Mode::Lookup(lookup) => lookup.key_column.as_deref(),
            Mode::Push(push) => push.key_column.as_deref(),
            Mode::Whole | Mode::Watermark(_) => return None,
        };
        named.or(self.key.first().map(String::as_str))
    }

    /// Where its keys come from.
    pub(crate) fn keys(&self) -> Option<&Keys> {
        match &self.mode {
            Mode::Lookup(lookup) => Some(&lookup.keys),
            Mode::Push(push) => Some(&push.keys),
            Mode::Whole | Mode::Watermark(_) => None,
        }
    }

    /// Requests of this stream within a minute and a day.
    pub(crate) fn budget(&self) -> (Option<u32>, Option<u32>) {
        match &self.mode {
            Mode::Lookup(lookup) => (lookup.per_minute, lookup.per_day),
            Mode::Push(push) => (push.per_minute, push.per_day),
            Mode::Whole | Mode::Watermark(_) => (None, None),
        }
    }
}

fn shrink_guard() -> u8 {
    50
}
fn one() -> u64 {
    1
}
fn format() -> String {
    "%Y-%m-%dT%H:%M:%S%.f".to_owned()
}
