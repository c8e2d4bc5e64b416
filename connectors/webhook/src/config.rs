//! The `config:` section of a system that pushes: parsing, defaults and the faults that can be told offline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// An HTTP listener with one endpoint a stream. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Address and port on which it listens: `0.0.0.0:8443`, `127.0.0.1:8090` behind a proxy, `[::]:8443`.
    pub listen: String,
    /// The certificate it shows, and the authority of its senders'. Without it plain HTTP is spoken.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// The streams by name: the path of each, who may send to it, and how its bodies are read.
    pub streams: BTreeMap<String, Endpoint>,
    /// Connections that are open at once; one more is turned away with 429.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: usize,
    /// MiB of memory for bodies that are being read or wait for their group; one that finds no room is answered 429. JSON counts
    /// four times its size while it is read, XML eight times.
    #[serde(default = "defaults::waiting_mib")]
    pub waiting_mib: usize,
    /// Seconds that a sender may take for a TLS handshake or the head of a request; an idle connection ends after them.
    #[serde(default = "defaults::head_within_s")]
    pub head_within_s: f64,
    /// Seconds that a sender may take for the body of a request.
    #[serde(default = "defaults::body_within_s")]
    pub body_within_s: f64,
    /// Seconds within which a request is answered: what is not in Kafka by then is answered 503, and the sender repeats it.
    #[serde(default = "defaults::answer_within_s")]
    pub answer_within_s: f64,
    /// Tell every accepted exchange to the audit topic: who sent it, and the SHA-256 of what was sent and answered.
    #[serde(default)]
    pub evidence: bool,
    /// Evidence names the last address of `X-Forwarded-For` as the sender. Only where a proxy alone can reach the listener.
    #[serde(default)]
    pub trust_forwarded: bool,
}

/// Files of TLS, PEM; relative ones start at the configuration folder. They are read anew when they change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose certificates senders may show. Needed by `auth: {mtls: …}`.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// The endpoint of one stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its path, `/nhan/tien-do`. A query behind it is ignored.
    pub path: String,
    /// Who may send.
    pub auth: Auth,
    /// What a body holds.
    #[serde(default)]
    pub format: Format,
    /// Where the rows of `json` and `xml` are: `/data/items`, `/Envelope/Body/row`. Empty: the body is one row, or a JSON list of rows.
    #[serde(default)]
    pub rows: String,
    /// The columns in their order. What else comes is added behind them; without this, the first bodies decide.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The columns that identify a row. Needed by `op`.
    #[serde(default)]
    pub key: Vec<String>,
    /// Which column says what happened to a row. Without it every row is a create.
    #[serde(default)]
    pub op: Option<Ops>,
    /// How a repeated request is known, so that it is published once.
    #[serde(default)]
    pub idempotency: Option<Idempotency>,
    /// Largest body, bytes; a larger one is answered 413.
    #[serde(default = "defaults::max_bytes")]
    pub max_bytes: usize,
    /// Most rows of one body; more are answered 413.
    #[serde(default = "defaults::max_rows")]
    pub max_rows: usize,
    /// Requests a second that are let in, with a second's worth at once; more are answered 429. Without it there is no such limit.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// Requests that wait for their answer at once; more are answered 429.
    #[serde(default = "defaults::max_waiting")]
    pub max_waiting: usize,
    /// `edxml`: the folder in which attachments are kept by their SHA-256, before the answer.
    #[serde(default)]
    pub attachments: Option<PathBuf>,
}

/// Who may send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Anyone. Allowed on a loopback address alone.
    None,
    /// Who signs the body with a shared secret.
    Hmac(Signed),
    /// Who shows a token: `Authorization: Bearer …`.
    Bearer(Bearer),
    /// Who shows a certificate of `tls.client_ca`.
    Mtls(Certified),
}

/// A signature over the body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The shared secret.
    pub secret: Secret,
    /// The secret before, for as long as senders still use it.
    #[serde(default)]
    pub secret_previous: Option<Secret>,
    /// How the secret is written; `base64` leaves out a `whsec_` before it.
    #[serde(default)]
    pub secret_form: SecretForm,
    /// The header with the signature; several may stand in it, with blanks between.
    #[serde(default = "defaults::signature")]
    pub header: String,
    /// What stands before the signature: `sha256=`, `v1,`. Empty: nothing does.
    #[serde(default = "defaults::prefix")]
    pub prefix: String,
    /// The hash of the HMAC.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Headers that are signed before the body, each with a full stop behind it: `[webhook-id, webhook-timestamp]`.
    #[serde(default)]
    pub signed_headers: Vec<String>,
    /// When it was signed: older ones are refused, so that a recorded request cannot be sent again later.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

/// When a request was signed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// The header with the time in seconds since 1970. It is signed before the body where `signed_headers` does not name it.
    pub header: String,
    /// Seconds that the time may be off.
    #[serde(default = "defaults::tolerance_s")]
    pub tolerance_s: u64,
}

/// A token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// The token.
    pub token: Secret,
    /// The token before, for as long as senders still use it.
    #[serde(default)]
    pub token_previous: Option<Secret>,
}

/// A client's certificate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Common names (CN) of which one must be the certificate's. Empty: any certificate of the authority.
    #[serde(default)]
    pub names: Vec<String>,
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// Its letters are the key.
    #[default]
    Text,
    /// Base64 of the key.
    Base64,
    /// The key in hexadecimal.
    Hex,
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC-SHA-256.
    #[default]
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Hexadecimal, upper or lower case.
    #[default]
    Hex,
    /// Base64.
    Base64,
}

/// What a body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON document.
    #[default]
    Json,
    /// One JSON object a line.
    Ndjson,
    /// One XML document.
    Xml,
    /// An official document (QCVN 102:2016/BTTTT) with its attachments.
    Edxml,
    /// CloudEvents 1.0: structured, batched, or with its attributes in `ce-` headers.
    Cloudevents,
}

/// What happened to a row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ops {
    /// The column that says it.
    pub field: String,
    /// Its values for a row that is new.
    #[serde(default = "defaults::create")]
    pub create: Vec<String>,
    /// Its values for a row that changed.
    #[serde(default = "defaults::update")]
    pub update: Vec<String>,
    /// Its values for a row that is gone.
    #[serde(default = "defaults::delete")]
    pub delete: Vec<String>,
}

/// How a repeated request is known: by one of `header`, `fields` and `body`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The header with a key of the whole request: `Idempotency-Key`. A request without it is refused.
    #[serde(default)]
    pub header: Option<String>,
    /// Columns that make a key of each row: `[source, id]`. A row without them is a reject.
    #[serde(default)]
    pub fields: Vec<String>,
    /// The body itself is the key: the same bytes are the same request.
    #[serde(default)]
    pub body: bool,
    /// Seconds for which a key is remembered.
    #[serde(default = "defaults::window_s")]
    pub window_s: u64,
    /// Most keys that are remembered; beyond them the oldest are forgotten early, which a metric tells. About 60 bytes each.
    #[serde(default = "defaults::keys")]
    pub keys: usize,
}

impl WebhookConfig {
    /// Where it listens; `check` has told where this is none.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// KiB of memory for bodies.
    pub(crate) fn room_kib(&self) -> usize {
        self.waiting_mib.saturating_mul(1_024)
    }

    /// A configured time.
    pub(crate) fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value.clamp(0.05, 3_600.0))
    }
}

mod defaults {
    pub(super) fn max_connections() -> usize {
        1_024
    }
    pub(super) fn waiting_mib() -> usize {
        64
    }
    pub(super) fn head_within_s() -> f64 {
        10.0
    }
    pub(super) fn body_within_s() -> f64 {
        30.0
    }
    pub(super) fn answer_within_s() -> f64 {
        15.0
    }
    pub(super) fn max_bytes() -> usize {
        4 << 20
    }
    pub(super) fn max_rows() -> usize {
        10_000
    }
    pub(super) fn max_waiting() -> usize {
        1_000
    }
    pub(super) fn signature() -> String {
        "X-Hub-Signature-256".to_owned()
    }
    pub(super) fn prefix() -> String {
        "sha256=".to_owned()
    }
    pub(super) fn tolerance_s() -> u64 {
        300
    }
    pub(super) fn create() -> Vec<String> {
        ["c", "create"].map(str::to_owned).to_vec()
    }
    pub(super) fn update() -> Vec<String> {
        ["u", "update"].map(str::to_owned).to_vec()
    }
    pub(super) fn delete() -> Vec<String> {
        ["d", "delete"].map(str::to_owned).to_vec()
    }
    pub(super) fn window_s() -> u64 {
        86_400
    }
    pub(super) fn keys() -> usize {
        1_000_000
    }
}
