//! How the hub logs in: the ways that provinces' services ask for.

use std::fmt;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::stream::{Request, Rule};

/// How the hub logs in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Client credentials: a token of `token_url`, sent as `Authorization: Bearer`.
    #[serde(rename = "oauth2")]
    OAuth2(OAuth2),
    /// A fixed key in a header or in the query.
    ApiKey(ApiKey),
    /// `Authorization: Basic`.
    Basic(Basic),
    /// A fixed token, sent as `Authorization: Bearer`.
    Bearer(Secret),
    /// A login request whose answer holds a token, which requests carry where `{token}` stands.
    Session(Box<Session>),
}

/// OAuth2 client credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// Where tokens are had: a path below `base_url`, or an address of its own.
    #[serde(default = "token_url")]
    pub token_url: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What the token is asked for. Left out: what the service gives.
    #[serde(default)]
    pub scope: Option<String>,
    /// Where the credentials stand in the request for a token.
    #[serde(default)]
    pub credentials: CredentialsIn,
    /// Seconds that a token lives whose answer does not say so.
    #[serde(default = "ttl_s")]
    pub ttl_s: f64,
}

/// Where client credentials stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsIn {
    /// In the header `Authorization: Basic`, as WSO2 wants it.
    #[default]
    Header,
    /// In the form, as `client_id` and `client_secret`.
    Form,
}

/// A fixed key. Give `header` or `query`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The header that carries it, `X-Api-Key`.
    #[serde(default)]
    pub header: Option<String>,
    /// The query parameter that carries it.
    #[serde(default)]
    pub query: Option<String>,
    /// The key.
    pub value: Secret,
}

/// A name and a password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// A login request in the manner of the National Service Portal.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The login request. `{user}` and `{password}` stand for the account in its query, headers and body.
    pub login: Request,
    /// The account.
    #[serde(default)]
    pub user: String,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
    /// Where the token is in the answer: `/session`.
    pub token: String,
    /// What the answer of a login that is accepted says: `{path: /error_code, equals: 0}`.
    #[serde(default)]
    pub success: Option<Rule>,
    /// Seconds after which a new token is had.
    #[serde(default = "ttl_s")]
    pub ttl_s: f64,
    /// What an answer says whose token is no longer good, where that is not the status 401.
    #[serde(default)]
    pub expired: Option<Rule>,
}

/// What the header `lgspaccesstoken` holds: base64 of a JSON object with these.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lgsp {
    /// `AccessKey`.
    pub access_key: String,
    /// `SecretKey`.
    pub secret_key: Secret,
    /// `AppName`.
    pub app_name: String,
    /// `PartnerCode`: the code of the agency that asks.
    pub partner_code: String,
    /// `PartnerCodeCus`: the code of the agency that is asked for.
    #[serde(default)]
    pub partner_code_cus: String,
}

impl Lgsp {
    /// The JSON object of the header.
    pub(crate) fn object(&self) -> Value {
        json!({
            "AccessKey": self.access_key,
            "SecretKey": self.secret_key.reveal(),
            "AppName": self.app_name,
            "PartnerCode": self.partner_code,
            "PartnerCodeCus": self.partner_code_cus,
        })
    }
}

impl Auth {
    /// The account that the service knows, for evidence.
    pub(crate) fn account(&self) -> &str {
        match self {
            Self::OAuth2(oauth2) => &oauth2.client_id,
            Self::Basic(basic) => &basic.user,
            Self::Session(session) => &session.user,
            Self::ApiKey(_) | Self::Bearer(_) => "",
        }
    }

    /// What tells one login from another, so that a token is used by those alone who have the same one.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let secret = match self {
            Self::OAuth2(oauth2) => oauth2.client_secret.reveal(),
            Self::ApiKey(key) => key.value.reveal(),
            Self::Basic(basic) => basic.password.reveal(),
            Self::Bearer(token) => token.reveal(),
            Self::Session(session) => session.password.reveal(),
        };
        Sha256::digest(format!("{}\n{self:?}\n{secret}", Shown(self))).into()
    }
}

/// A name of the variant beside what `Debug` shows.
struct Shown<'a>(&'a Auth);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Auth::OAuth2(_) => "oauth2",
            Auth::ApiKey(_) => "api_key",
            Auth::Basic(_) => "basic",
            Auth::Bearer(_) => "bearer",
            Auth::Session(_) => "session",
        })
    }
}

fn token_url() -> String {
    "/token".to_owned()
}

fn ttl_s() -> f64 {
    3_600.0
}
