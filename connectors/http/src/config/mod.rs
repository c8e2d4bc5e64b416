//! The `config:` section of a system behind HTTP: parsing and defaults.

mod auth;
mod faults;
mod keyed;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

pub use auth::{ApiKey, Auth, Basic, CredentialsIn, Lgsp, OAuth2, Session};
pub use keyed::{Keys, Lookup, Push, SqlKeys, SqlTls, Submit, TopicOfKeys};
pub use stream::{ByCursor, ByLink, ByNext, ByOffset, ByPage, Format, HttpStream, Method, Mode, Paging, Request, Rule, Watermark, Words};

/// A REST or SOAP service. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the service is: `https://lgsp.binhduong.gov.vn`. Paths are appended to it.
    pub base_url: String,
    /// How the hub logs in. Left out: it does not.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// The header `lgspaccesstoken` that some LGSPs want beside a login.
    #[serde(default)]
    pub lgsp: Option<Lgsp>,
    /// Headers of every request. `{token}` stands for the token of `auth.session`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Certificates.
    #[serde(default)]
    pub tls: Tls,
    /// A proxy on the way to the service. Variables of the environment are not looked at.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// Seconds that an answer may take, from the first byte sent to the last byte received.
    #[serde(default = "defaults::timeout_s")]
    pub timeout_s: f64,
    /// Seconds that a connection may take, TLS included.
    #[serde(default = "defaults::connect_timeout_s")]
    pub connect_timeout_s: f64,
    /// How often the service may be asked, by all streams together.
    #[serde(default)]
    pub rate: Rate,
    /// What is tried again, and when.
    #[serde(default)]
    pub retry: Retry,
    /// When a service that fails is left alone.
    #[serde(default)]
    pub breaker: Breaker,
    /// Evidence of every exchange, published to the audit topic of the system. Left out: none.
    #[serde(default)]
    pub evidence: Option<EvidenceConfig>,
    /// Seconds between two looks at a list, and between two looks for keys that are due.
    #[serde(default = "defaults::every_s")]
    pub every_s: f64,
    /// Largest answer that is read, MiB: an answer is held in memory whole.
    #[serde(default = "defaults::document_mib")]
    pub document_mib: u64,
    /// The streams by name: what each asks for, and how its answers are read.
    pub streams: BTreeMap<String, HttpStream>,
}

/// Certificates. A relative path starts at the configuration folder.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the authorities that may sign the service's certificate. Left out: the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file with the hub's own certificate (and those between it and its authority), for services that ask for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM file with the key of `certificate`.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A proxy on the way to a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Where it is: `http://proxy.binhduong.gov.vn:3128`.
    pub url: String,
    /// The account, where it wants one.
    #[serde(default)]
    pub user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
}

/// How often a service may be asked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests within any 60 seconds. Left out: as many as come.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Requests of one day. Those of the day so far are remembered over a restart. Left out: as many as come.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Hours east of UTC by which a day begins: 7 in Vietnam.
    #[serde(default = "defaults::utc_offset_h")]
    pub utc_offset_h: i32,
    /// Requests at the same time.
    #[serde(default = "defaults::concurrent")]
    pub concurrent: usize,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_minute: None, per_day: None, utc_offset_h: defaults::utc_offset_h(), concurrent: defaults::concurrent() }
    }
}

/// What is tried again: no connection, no answer in time, 408, 429 and 5xx. `Retry-After` wins over the times given here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often a request is made at most.
    #[serde(default = "defaults::attempts")]
    pub attempts: u32,
    /// Seconds before the second attempt; doubled for each one more, and shortened by up to a half at random.
    #[serde(default = "defaults::first_s")]
    pub first_s: f64,
    /// Longest time between two attempts, seconds.
    #[serde(default = "defaults::longest_s")]
    pub longest_s: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: defaults::attempts(), first_s: defaults::first_s(), longest_s: defaults::longest_s() }
    }
}

/// When a service that fails is left alone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Failures on end after which it is left alone. One success begins the count anew.
    #[serde(default = "defaults::failures")]
    pub failures: u32,
    /// Seconds for which it is left alone; then a single request finds out whether it is back.
    #[serde(default = "defaults::rest_s")]
    pub rest_s: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: defaults::failures(), rest_s: defaults::rest_s() }
    }
}

/// Evidence of every exchange: digests and circumstances go to the audit topic.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceConfig {
    /// Folder in which requests and answers are kept whole, a sub-folder a day, readable by the hub's account alone. Left out: digests alone.
    #[serde(default)]
    pub keep: Option<PathBuf>,
    /// Days after which what is kept is removed.
    #[serde(default = "defaults::keep_days")]
    pub keep_days: u32,
}

impl HttpConfig {
    /// Time between two looks.
    pub(crate) fn every(&self, stream: &HttpStream) -> Duration {
        Duration::from_secs_f64(stream.every_s.unwrap_or(self.every_s).clamp(0.01, 30.0 * 86_400.0))
    }

    /// Every fault that can be found without the network, each with its place.
    pub(crate) fn faults(&self) -> Vec<hub_sdk::ConfigFault> {
        faults::faults(self)
    }
}

mod defaults {
    pub(super) fn timeout_s() -> f64 {
        60.0
    }
    pub(super) fn connect_timeout_s() -> f64 {
        15.0
    }
    pub(super) fn every_s() -> f64 {
        300.0
    }
    pub(super) fn document_mib() -> u64 {
        64
    }
    pub(super) fn utc_offset_h() -> i32 {
        7
    }
    pub(super) fn concurrent() -> usize {
        2
    }
    pub(super) fn attempts() -> u32 {
        4
    }
    pub(super) fn first_s() -> f64 {
        1.0
    }
    pub(super) fn longest_s() -> f64 {
        60.0
    }
    pub(super) fn failures() -> u32 {
        8
    }
    pub(super) fn rest_s() -> f64 {
        60.0
    }
    pub(super) fn keep_days() -> u32 {
        365
    }
}
