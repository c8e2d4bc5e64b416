//! A prefix in a bucket of an S3-compatible store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hub_sdk::ErrorKind;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, Certificate, ClientOptions, Error as Failure, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::names::{free, is_delivery};
use super::{Entry, Fetched, StoreError, spooled, unspooled};
use crate::config::S3Place;

/// How long a connection may take, and a pause between two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Objects under a prefix.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: Key,
    spool: PathBuf,
}

impl Bucket {
    pub(super) fn new(place: &S3Place, directory: &Path, spool: PathBuf) -> Result<Self, StoreError> {
        // The client of HTTP takes the process's provider of TLS and will not be made without one; the hub's program has set it.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _raced = rustls::crypto::ring::default_provider().install_default();
        }
        let wrong = |why: String| StoreError::new(ErrorKind::BadConfig, "bad-config", why, "mend the section `s3`");
        let mut options = ClientOptions::new().with_allow_http(place.allow_http).with_connect_timeout(PATIENCE).with_timeout_disabled();
        options = options.with_read_timeout(PATIENCE);
        if let Some(file) = &place.ca_file {
            let path = directory.join(file);
            let told = |error: &dyn std::fmt::Display| wrong(format!("reading {}: {error}", path.display()));
            let pem = std::fs::read(&path).map_err(|error| told(&error))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| told(&error))? {
                options = options.with_root_certificate(certificate);
            }
        }
        // The hub itself tries again, with a word about it.
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: PATIENCE };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(&place.region)
            .with_access_key_id(place.access_key_id.reveal())
            .with_secret_access_key(place.secret_access_key.reveal())
            .with_virtual_hosted_style_request(place.virtual_host)
            .with_allow_http(place.allow_http)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = &place.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        let store = builder.build().map_err(|error| wrong(error.to_string()))?;
        let prefix = Key::parse(place.prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store: Arc::new(store), name: place.bucket.clone(), prefix, spool })
    }

    pub(super) fn place(&self) -> String {
        format!("s3://{}/{}", self.name, self.prefix)
    }

    fn key(&self, name: &str) -> Result<Key, StoreError> {
        let path = if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Key::parse(path).map_err(|error| unreachable(error.to_string()))
    }

    pub(super) async fn list(&self, pattern: &str) -> Result<Vec<Entry>, StoreError> {
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await.map_err(|error| classified(&error, Asked::Bucket))?;
        let named = listed.objects.iter().filter_map(|object| Some((object.location.filename()?, object)));
        Ok(named.filter(|(name, _)| is_delivery(pattern, name)).map(|(name, object)| entry(name, object)).collect())
    }

    pub(super) async fn fetch(&self, name: &str) -> Result<Fetched, StoreError> {
        let lost = |error: &Failure| classified(error, Asked::Object);
        let answer = self.store.get(&self.key(name)?).await.map_err(|error| lost(&error))?;
        let entry = entry(name, &answer.meta);
        let mut local = spooled(&self.spool).await?;
        let mut pieces = answer.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| lost(&error))?;
            local.write_all(&piece).await.map_err(|error| unspooled(&self.spool, &error))?;
        }
        let rewound = async {
            local.flush().await?;
            local.rewind().await
        };
        rewound.await.map_err(|error| unspooled(&self.spool, &error))?;
        Ok(Fetched { file: local.into_std().await, entry })
    }

    /// Objects cannot be moved: the bad one is copied, and then deleted.
    pub(super) async fn set_aside(&self, aside: &str, bad: &Entry, report: String) -> Result<(), StoreError> {
        let lost = |error: Failure| classified(&error, Asked::Object);
        let key = self.key(&bad.name)?;
        if entry(&bad.name, &self.store.head(&key).await.map_err(lost)?) != *bad {
            return Ok(());
        }
        let mut count = 1;
        let (target, beside) = loop {
            let (name, beside) = free(&bad.name, count);
            let target = self.key(&format!("{aside}/{name}"))?;
            match self.store.head(&target).await {
                Err(Failure::NotFound { .. }) => break (target, self.key(&format!("{aside}/{beside}"))?),
                Err(error) => return Err(lost(error)),
                Ok(_taken) => count += 1,
            }
        };
        self.store.put(&beside, report.into()).await.map_err(lost)?;
        self.store.copy(&key, &target).await.map_err(lost)?;
        self.store.delete(&key).await.map_err(lost)
    }
}

/// What was asked for when an error came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Bucket,
    Object,
}

fn entry(name: &str, object: &ObjectMeta) -> Entry {
    let modified = u64::try_from(object.last_modified.timestamp()).unwrap_or(0) * 1_000_000;
    Entry { name: name.to_owned(), size: object.size, modified, etag: object.e_tag.clone().unwrap_or_default() }
}

fn unreachable(why: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Unreachable, "store-unreachable", why, "see whether the store runs and can be reached from here")
}

fn classified(error: &Failure, asked: Asked) -> StoreError {
    let why = chain(error);
    // What a listing ends with is told in words alone.
    let is_status = |status: &str| matches!(error, Failure::Generic { .. }) && why.contains(&format!("status code: {status}"));
    let is_denied = matches!(error, Failure::PermissionDenied { .. } | Failure::Unauthenticated { .. });
    let is_missing = matches!(error, Failure::NotFound { .. });
    if is_denied || is_status("401") || is_status("403") {
        let advice = "mend `s3.access_key_id` and `s3.secret_access_key`, and let the key list and read the bucket";
        StoreError::new(ErrorKind::Denied, "login-refused", why, advice)
    } else if is_missing && asked == Asked::Object {
        StoreError { is_gone: true, ..unreachable(why) }
    } else if is_missing || is_status("404") {
        let advice = "make the bucket, or mend `s3.bucket`, `s3.endpoint` and `s3.region`";
        StoreError::new(ErrorKind::Unreachable, "bucket-missing", why, advice)
    } else if is_status("429") || is_status("503") {
        StoreError::new(ErrorKind::Throttled, "throttled", why, "look less often (`every_s`), or have the limit of the store raised")
    } else {
        unreachable(why)
    }
}

/// An error with its causes, each once.
fn chain(error: &Failure) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let part = next.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = next.source();
    }
    text
}
