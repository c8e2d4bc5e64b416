//! The way of one request: who sends, how much, what it says, and the wait for its commit.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hub_sdk::model::{Evidence, StreamName};
use hub_sdk::now_micros;
use hyper::body::{Body, Incoming};
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::answer::{self, Refusal, sha256};
use crate::attachments::{self, Content};
use crate::auth::Guard;
use crate::body::{Parsed, Reader, readable};
use crate::config::{Endpoint, WebhookConfig};
use crate::figures::{Counted, Figures};
use crate::group::{Request, SharedColumns};
use crate::keys::{Digest, digest};
use crate::rate::Rate;
use crate::rows::Columns;
use crate::waiting::Told;

/// Bodies above this are read on a thread of their own, so that others are not kept waiting.
const LARGE: usize = 128 << 10;
/// How soon who was shed may come again.
const SOON: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Common names of the certificate that was shown; `None` where none was.
    pub(crate) names: Option<Vec<String>>,
}

/// How the key of a whole request is found.
enum RequestKey {
    None,
    Header(HeaderName),
    Body,
}

/// The endpoint of one stream, prepared. It lives as long as its connector, so that rates and rooms outlive a run.
pub(crate) struct Gate {
    stream: StreamName,
    path: String,
    guard: Guard,
    reader: Reader,
    key: RequestKey,
    max_bytes: usize,
    rate: Option<Rate>,
    /// From when the rate's time counts.
    began: Instant,
    places: Arc<Semaphore>,
}

impl Gate {
    /// Prepares an endpoint.
    ///
    /// # Errors
    /// What is wrong with its secrets or headers.
    pub(crate) fn new(stream: StreamName, endpoint: &Endpoint, attachments: Option<PathBuf>) -> Result<Self, String> {
        let key = match &endpoint.idempotency {
            Some(idempotency) if idempotency.body => RequestKey::Body,
            Some(idempotency) => match &idempotency.header {
                Some(name) => RequestKey::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?),
                None => RequestKey::None,
            },
            None => RequestKey::None,
        };
        Ok(Self {
            stream,
            path: endpoint.path.clone(),
            guard: Guard::new(&endpoint.auth)?,
            reader: Reader::new(endpoint, attachments),
            key,
            max_bytes: endpoint.max_bytes,
            rate: endpoint.rate_per_s.map(Rate::new),
            began: Instant::now(),
            places: Arc::new(Semaphore::new(endpoint.max_waiting.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A place for one more request, within the rate.
    fn let_in(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Some(rate) = &self.rate {
            let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
            rate.admit(now).map_err(|again| Refusal::busy("more requests a second than this stream takes", again))?;
        }
        let full = |_| Refusal::busy("too many requests wait for their answer", SOON);
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }

    /// Looks at the signature, and reads the rows.
    fn read(&self, parts: &Parts, bytes: &Bytes, columns: &Columns, account: Option<String>) -> Result<Read, Refusal> {
        self.guard.body(&parts.headers, bytes).map_err(|why| Refusal::new(StatusCode::UNAUTHORIZED, why))?;
        let key = self.key_of(parts, bytes)?;
        let parsed = self.reader.read(&parts.headers, bytes, columns)?;
        Ok(Read { parsed, key, evidence: account.map(|account| Box::new(self.evidence(account, parts, bytes))) })
    }

    /// Puts attachments on the disk: a row must not refer to what is not there.
    fn keep(&self, contents: &[Content]) -> Result<(), Refusal> {
        let Some(folder) = self.reader.attachments().filter(|_| !contents.is_empty()) else { return Ok(()) };
        attachments::keep(folder, contents).map_err(|error| {
            tracing::error!(stream = %self.stream, folder = %folder.display(), %error, "attachments cannot be kept; the document is not taken");
            Refusal::later("the attachments cannot be kept now; send it again")
        })
    }

    fn key_of(&self, parts: &Parts, body: &[u8]) -> Result<Option<Digest>, Refusal> {
        match &self.key {
            RequestKey::None => Ok(None),
            RequestKey::Body => Ok(Some(digest([body]))),
            RequestKey::Header(name) => match parts.headers.get(name).map(|value| value.as_bytes().trim_ascii()) {
                Some(value) if !value.is_empty() => Ok(Some(digest([value]))),
                _ => Err(Refusal::bad(format!("there is no header {name}, by which a repeated request is known"))),
            },
        }
    }

    /// What can be proven of a request: who sent it, and which bytes.
    fn evidence(&self, account: String, parts: &Parts, body: &[u8]) -> Evidence {
        let target = parts.uri.path_and_query().map_or(self.path(), |target| target.as_str());
        Evidence {
            at_micros: now_micros(),
            stream: self.stream.clone(),
            account,
            what: format!("POST {}", self.path),
            outcome: String::new(),
            request_sha256: sha256(&[b"POST ", target.as_bytes(), b"\n", body]),
            answer_sha256: String::new(),
            answer_bytes: 0,
            kept: String::new(),
        }
    }
}

/// A request that was read.
struct Read {
    parsed: Parsed,
    key: Option<Digest>,
    evidence: Option<Box<Evidence>>,
}

/// A stream that a run takes.
pub(crate) struct Taken {
    pub(crate) gate: Arc<Gate>,
    /// Its place among the streams of the run.
    pub(crate) stream: usize,
    pub(crate) columns: SharedColumns,
}

/// The streams by their paths. `None` for one that is configured and that nobody maps now.
pub(crate) type Paths = HashMap<String, Option<Taken>>;

/// What a run's connections share.
pub(crate) struct Door {
    paths: Paths,
    queue: mpsc::Sender<Request>,
    /// KiB that bodies may take until they are in a group, and how many there are in all.
    room: Arc<Semaphore>,
    most_kib: usize,
    pub(crate) figures: Arc<Figures>,
    body_within: Duration,
    answer_within: Duration,
    evidence: bool,
    trust_forwarded: bool,
}

/// A body with its room.
struct Whole {
    bytes: Bytes,
    room: OwnedSemaphorePermit,
}

impl Door {
    /// What is shared by the connections of a run.
    pub(crate) fn new(
        config: &WebhookConfig,
        paths: Paths,
        queue: mpsc::Sender<Request>,
        room: Arc<Semaphore>,
        figures: Arc<Figures>,
    ) -> Self {
        let (body_within, answer_within) = (WebhookConfig::seconds(config.body_within_s), WebhookConfig::seconds(config.answer_within_s));
        let (evidence, trust_forwarded, most_kib) = (config.evidence, config.trust_forwarded, config.room_kib());
        Self { paths, queue, room, most_kib, figures, body_within, answer_within, evidence, trust_forwarded }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, peer: &Peer, request: hyper::Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let answer = match self.take(peer, &parts, body).await {
            Ok(told) => answer::taken(told),
            Err(refusal) => {
                // Whoever floods the hub with bad requests must not flood its log.
                tracing::debug!(status = refusal.status.as_u16(), peer = %peer.address, why = refusal.message, "a request is not taken");
                refusal.response()
            }
        };
        self.figures.answered(answer.status().as_u16());
        answer
    }

    async fn take(&self, peer: &Peer, parts: &Parts, body: Incoming) -> Result<Told, Refusal> {
        let came = Instant::now();
        let Taken { gate, stream, columns } = self.find(parts)?;
        readable(&parts.headers)?;
        let now_s = u64::try_from(now_micros() / 1_000_000).unwrap_or(0);
        let denied = |why| Refusal::new(StatusCode::UNAUTHORIZED, why);
        gate.guard.head(&parts.headers, peer.names.as_deref(), now_s).map_err(denied)?;
        // Who is known by a signature is let in after it: strangers must not use up the rate and the places of a stream.
        let early = (!gate.guard.reads_bodies()).then(|| gate.let_in()).transpose()?;
        let _waits = Counted::new(&self.figures.waiting);
        let Whole { bytes, mut room } = self.body(gate, body, came).await?;
        let account = self.evidence.then(|| self.account(peer, parts));
        let known = Arc::clone(&columns.read().unwrap_or_else(PoisonError::into_inner));
        let Read { parsed, key, evidence } = match bytes.len() > LARGE || gate.reader.attachments().is_some() {
            false => gate.read(parts, &bytes, &known, account)?,
            true => {
                let (gate, parts) = (Arc::clone(gate), parts.clone());
                let read = tokio::task::spawn_blocking(move || {
                    let read = gate.read(&parts, &bytes, &known, account)?;
                    gate.keep(&read.parsed.contents)?;
                    Ok(read)
                });
                read.await.map_err(|_| Refusal::later("the body could not be read"))??
            }
        };
        let _place = early.map_or_else(|| gate.let_in(), Ok)?;
        if parsed.rows.len() == 0 {
            return Ok(Told::default());
        }
        // Rows are compact; what reading them took is free again.
        let kept = parsed.rows.memory().div_ceil(1_024);
        drop(room.split(room.num_permits().saturating_sub(kept)));
        let (answer, told) = oneshot::channel();
        let request = Request { stream: *stream, rows: parsed.rows, key, evidence, answer, room };
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy("too many requests wait for their group", SOON),
            mpsc::error::TrySendError::Closed(_) => Refusal::later("the hub stops taking requests; send it again"),
        })?;
        match timeout_at(came + self.answer_within, told).await {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(_)) => Err(Refusal::later("it is not known to be in Kafka; send it again")),
            Err(_) => Err(Refusal::later("it was not in Kafka in time; send it again")),
        }
    }

    fn find(&self, parts: &Parts) -> Result<&Taken, Refusal> {
        let found = self.paths.get(parts.uri.path());
        let taken = found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no stream has this path"))?;
        if parts.method != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "events are sent with POST"));
        }
        taken.as_ref().ok_or_else(|| Refusal::later("this stream is not taken now; send it again"))
    }

    /// Reads a body that is not too large, while there is room for it.
    async fn body(&self, gate: &Gate, mut body: Incoming, came: Instant) -> Result<Whole, Refusal> {
        let large = || {
            let message = format!("the body is larger than {} bytes", gate.max_bytes);
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let told = usize::try_from(body.size_hint().exact().unwrap_or(0)).unwrap_or(usize::MAX);
        if told > gate.max_bytes {
            return Err(large());
        }
        let weight = gate.reader.weight();
        // What a stranger says of a length holds no room: that is taken as the bytes come.
        let held = if gate.guard.reads_bodies() { 1 } else { told.max(1) };
        let mut room = self.room_for(held * weight)?;
        let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
        let broken = |_| Refusal::bad("the body broke off");
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        let within = came + self.body_within;
        while let Some(frame) = timeout_at(within, body.frame()).await.map_err(slow)? {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            let so_far = first.len() + all.len();
            if so_far + data.len() > gate.max_bytes {
                return Err(large());
            }
            let (held, needed) = (room.num_permits() * 1_024, (so_far + data.len()) * weight);
            if needed > held && room.num_permits() < self.most_kib {
                room.merge(self.room_for((needed - held).min((self.most_kib - room.num_permits()) * 1_024))?);
            }
            // Most bodies come in one piece, which is used as it is.
            if so_far == 0 {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.reserve(told.max(so_far + data.len()));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(Whole { bytes: if all.is_empty() { first } else { all.freeze() }, room })
    }

    /// Who sent a request: the names of a certificate, else the address, which a proxy may tell.
    fn account(&self, peer: &Peer, parts: &Parts) -> String {
        if let Some(names) = &peer.names {
            return format!("CN={}", names.join(", CN="));
        }
        // The last one is what the proxy itself has seen; those before are the sender's own words.
        let told = parts.headers.get("x-forwarded-for").filter(|_| self.trust_forwarded).and_then(|value| value.to_str().ok());
        let told = told.and_then(|value| value.rsplit(',').next()).and_then(|text| text.trim().parse::<IpAddr>().ok());
        told.unwrap_or_else(|| peer.address.ip()).to_string()
    }

    fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        // One that would take more than all takes all: it is read alone.
        let kibibytes = u32::try_from(bytes.div_ceil(1_024).min(self.most_kib)).unwrap_or(u32::MAX);
        let full = |_| Refusal::busy("too many bytes wait for their group", SOON);
        Arc::clone(&self.room).try_acquire_many_owned(kibibytes).map_err(full)
    }
}
