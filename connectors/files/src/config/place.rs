//! Where the files are: on an SFTP server or in an S3-compatible store.

use std::path::PathBuf;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// A folder on an SFTP server. The server is known by its host key; without one nothing is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftpPlace {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The account.
    pub user: String,
    /// Its password, unless a key is used.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the private key, in the form of OpenSSH or PEM; a relative path starts at the configuration folder.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// What the key is encrypted by, where it is.
    #[serde(default)]
    pub key_passphrase: Option<Secret>,
    /// The fingerprint of the server's key, `SHA256:…`, as its operator tells it. `hub check` says the one that it finds.
    #[serde(default)]
    pub host_key: Option<String>,
    /// The folder on the server; a relative one starts at the account's home.
    #[serde(default = "defaults::folder")]
    pub folder: String,
}

/// A prefix in a bucket of an S3-compatible store (MinIO, Ceph, Viettel, AWS).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Place {
    /// Address of the store, `https://s3.example.vn`; AWS itself unless given.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// What the names of the objects begin with, like a folder: `nhan/dan_cu`. Objects deeper than it are not looked at.
    #[serde(default)]
    pub prefix: String,
    /// The region. Stores of one's own take any.
    #[serde(default = "defaults::region")]
    pub region: String,
    /// Name of the access key.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
    /// Whether the store may be spoken to without TLS: for a network of one's own only.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket is part of the host name, `bucket.s3.example.vn`, and not of the path.
    #[serde(default)]
    pub virtual_host: bool,
    /// A file with the certificates (PEM) of the authority that the store's is from, besides those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl SftpPlace {
    /// Faults with the fields that they are in.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let logins = usize::from(self.password.is_some()) + usize::from(self.key_file.is_some());
        let is_fingerprint = |key: &String| key.strip_prefix("SHA256:").is_some_and(|hash| hash.trim_end_matches('=').len() == 43);
        [
            (self.host.is_empty(), "/host", "is empty; give the server's name"),
            (self.user.is_empty(), "/user", "is empty; give the account"),
            (self.port == 0, "/port", "is out of range; SSH listens on 22"),
            (logins != 1, "", "needs either `password` or `key_file`"),
            (self.key_passphrase.is_some() && self.key_file.is_none(), "/key_passphrase", "is for `key_file` alone"),
            (
                self.host_key.as_ref().is_some_and(|key| !is_fingerprint(key)),
                "/host_key",
                "is no fingerprint; it has the form SHA256:… with 43 letters, as `ssh-keygen -lf` prints it",
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, field, message)| wrong.then_some((field, message)))
        .collect()
    }
}

impl S3Place {
    /// Faults with the fields that they are in.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let endpoint = self.endpoint.as_deref().unwrap_or("https://");
        let is_http = endpoint.starts_with("http://");
        [
            (!is_http && !endpoint.starts_with("https://"), "/endpoint", "is no address; write https://host or https://host:port"),
            (is_http && !self.allow_http, "/endpoint", "is without TLS; write https://, or set allow_http: true in a network of your own"),
            (self.bucket.is_empty() || self.bucket.contains('/'), "/bucket", "is the name of the bucket alone"),
            (self.access_key_id.reveal().is_empty(), "/access_key_id", "is empty"),
            (self.secret_access_key.reveal().is_empty(), "/secret_access_key", "is empty"),
        ]
        .into_iter()
        .filter_map(|(wrong, field, message)| wrong.then_some((field, message)))
        .collect()
    }
}

mod defaults {
    pub(super) fn port() -> u16 {
        22
    }
    pub(super) fn folder() -> String {
        ".".to_owned()
    }
    pub(super) fn region() -> String {
        "us-east-1".to_owned()
    }
}
