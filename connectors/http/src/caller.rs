//! One exchange with the service: login, pace, breaker, retries, and the evidence of it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use chrono::Utc;
use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, Evidence, SourceError, now_micros};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

use crate::answer::{Answer, unpacked};
use crate::auth::Token;
use crate::breaker::{Leave, Rest};
use crate::config::{Auth, HttpConfig, Method, Request};
use crate::evidence::{Keeper, request_bytes, sha256};
use crate::request::{Built, add_headers, build, complete};
use crate::retry::{chance, retry_after};
use crate::site::{Budget, Site};
use crate::template::Values;
use crate::trail::Trail;

/// Within this time a service that answered other streams counts as one that takes the login.
const RECENTLY: Duration = Duration::from_secs(600);

/// Makes exchanges with one service.
pub(crate) struct Caller {
    pub(crate) config: Arc<HttpConfig>,
    pub(crate) base: Url,
    pub(crate) site: Arc<Site>,
    client: reqwest::Client,
    keeper: Option<Keeper>,
}

/// What is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) stream: &'a StreamName,
    pub(crate) request: &'a Request,
    pub(crate) values: &'a Values,
    /// The address of a further page.
    pub(crate) next: Option<&'a Url>,
    pub(crate) budget: Budget,
    pub(crate) stumble: Stumble,
}

/// What the status 500 is, when it does not go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stumble {
    /// An answer about this key: a SOAP fault, or something that the service stumbles over.
    IsAnAnswer,
    /// A failure.
    IsAFailure,
}

/// What an answer means for the exchange; what it says is the asker's business.
enum Verdict {
    Answered,
    /// The token is no longer good.
    Stale,
    Denied,
    /// Too many requests; how long to wait, where it says so.
    Busy(Option<Duration>),
    Failed,
}

impl Caller {
    /// Prepares connections; makes none.
    pub(crate) fn new(system: &str, config: Arc<HttpConfig>, directory: &Path) -> Result<Self, SourceError> {
        let doing = "preparing requests";
        let wrong = |error: String| SourceError::new(ErrorKind::BadConfig, doing).because(error);
        let base = Url::parse(&config.base_url).map_err(|error| wrong(format!("base_url: {error}")))?;
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::tls::client_config(&config.tls, directory)?)
            // A redirect would carry the login to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs_f64(config.timeout_s.clamp(0.1, 3_600.0)))
            .connect_timeout(Duration::from_secs_f64(config.connect_timeout_s.clamp(0.1, 600.0)))
            // Gateways close idle connections without a word; none is so quick.
            .pool_idle_timeout(Duration::from_secs(15))
            .user_agent(concat!("provincial-hub/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(proxy) = &config.proxy {
            let mut way = reqwest::Proxy::all(&proxy.url).map_err(|error| wrong(error.to_string()))?;
            if let Some(user) = &proxy.user {
                way = way.basic_auth(user, proxy.password.reveal());
            }
            client = client.proxy(way);
        }
        let client = client.build().map_err(|error| wrong(error.to_string()))?;
        let site = Site::of(system, &config);
        let keeper = config.evidence.as_ref().map(|evidence| Keeper::new(evidence, directory));
        Ok(Self { config, base, site, client, keeper })
    }

    /// Asks until there is an answer, or enough was tried. Answers of every status but 401, 403, 408, 429 and 5xx are handed over.
    pub(crate) async fn ask(&self, ask: &Ask<'_>, trail: &Trail) -> Result<Answer, SourceError> {
        let doing = format!("asking {}", self.place(ask.request));
        let (mut failed, mut has_renewed, mut first) = (0, false, None);
        loop {
            self.site.breaker.rests(Instant::now()).map_or(Ok(()), |rest| Err(resting(&doing, &rest)))?;
            self.site.take(ask.stream, &self.config.rate, ask.budget).await;
            let Ok(slot) = self.site.slots.acquire().await else {
                return Err(SourceError::new(ErrorKind::Defect, doing).because("no more requests are made"));
            };
            // From here on and not from when it began to wait for its turn: others are answered meanwhile.
            let began = *first.get_or_insert_with(Instant::now);
            let last = match self.step(ask, &doing, trail, failed).await {
                Step::Answered(answer) => return Ok(answer),
                Step::Stale(_, Some(token)) if !has_renewed => {
                    has_renewed = true;
                    self.forget(&token).await;
                    continue;
                }
                Step::Stale(status, _) => return Err(denied(&doing, status, false)),
                Step::Denied(status) => {
                    let recently = began.checked_sub(RECENTLY).unwrap_or(began);
                    return Err(denied(&doing, status, self.site.others_answered(ask.stream, recently)));
                }
                Step::Ended(error) => return Err(error),
                Step::Again(last) => last,
            };
            failed += 1;
            if failed >= self.config.retry.attempts.max(1) {
                return last.end(&doing, failed, ask.stumble).map_err(|error| match error.kind() {
                    ErrorKind::Unreachable if self.site.others_answered(ask.stream, began) => alone(&doing, &error),
                    _ => error,
                });
            }
            drop(slot);
            if !last.is_held() {
                tokio::time::sleep(self.config.retry.pause(failed, chance())).await;
            }
        }
    }

    /// One attempt, as far as the breaker lets it through, and what it means.
    async fn step(&self, ask: &Ask<'_>, doing: &str, trail: &Trail, failed: u32) -> Step {
        let leave = match self.site.breaker.admit(Instant::now()) {
            Ok(leave) => leave,
            Err(rest) => return Step::Ended(resting(doing, &rest)),
        };
        let settings = &self.config.breaker;
        let fail = |leave: Leave, why: String| {
            leave.failed(settings.failures, Duration::from_secs_f64(settings.rest_s.clamp(0.0, 86_400.0)), Instant::now(), why);
        };
        let (answer, token) = match self.attempt(ask, doing, trail).await {
            Ok(answered) => answered,
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Throttled) => {
                fail(leave, error.source().map_or_else(|| error.to_string(), ToString::to_string));
                return Step::Again(Last::Failed(error));
            }
            Err(error) => return Step::Ended(error),
        };
        let verdict = self.judge(&answer).await;
        if matches!(verdict, Verdict::Failed) {
            fail(leave, format!("the service answered {}", answer.status));
            return Step::Again(Last::Answered(answer, ErrorKind::Unreachable));
        }
        // Whatever it says, it is there.
        leave.succeeded();
        match verdict {
            Verdict::Answered | Verdict::Failed => {
                self.site.answered(ask.stream);
                Step::Answered(answer)
            }
            Verdict::Stale => Step::Stale(answer.status, token),
            Verdict::Denied => Step::Denied(answer.status),
            Verdict::Busy(asked) => {
                self.site.hold(asked.unwrap_or_else(|| self.config.retry.pause(failed + 1, chance())));
                Step::Again(Last::Answered(answer, ErrorKind::Throttled))
            }
        }
    }

    /// Sends a request once, and takes note of it.
    async fn attempt(&self, ask: &Ask<'_>, doing: &str, trail: &Trail) -> Result<(Answer, Option<Token>), SourceError> {
        let token = self.token(ask.stream, trail).await?;
        let mut values = ask.values.clone();
        if let Some(token) = &token {
            values.set("token", token.value.reveal());
        }
        complete(&mut values, ask.request, self.config.rate.utc_offset_h);
        let fill = |token: Option<&str>| {
            let values = token.map_or_else(|| values.clone(), |token| values.clone().with("token", token));
            let mut built = build(&self.base, ask.request, &values, ask.next)?;
            let mut headers = HeaderMap::new();
            add_headers(&mut headers, &self.config.headers, &values)?;
            // Headers of the request win.
            headers.extend(std::mem::take(&mut built.headers));
            Ok::<Built, SourceError>(Built { headers, ..built })
        };
        let mut built = fill(None)?;
        let url = built.url.clone();
        self.authorise(&mut built, token.as_ref())?;
        let sent = self.send(built, doing).await.map(|answer| Answer { url: Some(url), ..answer });
        if let Some(keeper) = &self.keeper {
            // What is kept and digested has no login in it.
            let request = request_bytes(&fill(token.as_ref().map(|_| "***"))?);
            let evidence = self.evidence(ask.request, ask.stream, sha256(&request), &sent);
            let body = sent.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
            let kept = keeper.keep(ask.stream, request, body).await?;
            trail.note(Evidence { kept, ..evidence });
        }
        Ok((sent?, token))
    }

    /// Takes note that a login was asked for, without its content.
    pub(crate) fn note_login(&self, request: &Request, stream: &StreamName, trail: &Trail, sent: &Result<Answer, SourceError>) {
        if self.keeper.is_some() {
            let evidence = self.evidence(request, stream, String::new(), sent);
            trail.note(Evidence { answer_sha256: String::new(), ..evidence });
        }
    }

    fn evidence(&self, request: &Request, stream: &StreamName, request_sha256: String, sent: &Result<Answer, SourceError>) -> Evidence {
        let (outcome, answer_sha256, answer_bytes) = match sent {
            Ok(answer) => (answer.status.as_u16().to_string(), sha256(&answer.body), answer.body.len() as u64),
            Err(error) => (error.source().map_or_else(String::new, ToString::to_string), String::new(), 0),
        };
        Evidence {
            at_micros: now_micros(),
            stream: stream.clone(),
            account: self.config.auth.as_ref().map_or("", Auth::account).to_owned(),
            what: self.place(request),
            outcome,
            request_sha256,
            answer_sha256,
            answer_bytes,
            kept: String::new(),
        }
    }

    /// Method and address of a request as configured: placeholders stay, for what they stand for may be personal data.
    pub(crate) fn place(&self, request: &Request) -> String {
        let has_body = request.json.is_some() || request.xml.is_some() || request.form.is_some();
        let method = match request.method {
            Some(Method::Put) => "PUT",
            Some(Method::Post) => "POST",
            None if has_body => "POST",
            Some(Method::Get) | None => "GET",
        };
        let path = request.path.split('?').next().unwrap_or_default();
        if path.starts_with("http://") || path.starts_with("https://") {
            return format!("{method} {path}");
        }
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        format!("{method} {}{slash}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// Sends a request and reads its answer whole, within the limits of size and time.
    pub(crate) async fn send(&self, built: Built, doing: &str) -> Result<Answer, SourceError> {
        let mut request = self.client.request(built.method, built.url).headers(built.headers);
        if let Some(body) = built.body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| self.transport(doing, error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let limit = usize::try_from(self.config.document_mib << 20).unwrap_or(usize::MAX);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(doing, error))? {
            if body.len() + chunk.len() > limit {
                return Err(SourceError::new(ErrorKind::StreamBroken, doing)
                    .because(format!("the answer has more than {} MiB", self.config.document_mib))
                    .advise("let the service answer in smaller pages, or raise `document_mib`"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = unpacked(body.freeze(), &headers, limit).await.map_err(|why| {
            SourceError::new(ErrorKind::StreamBroken, doing).because(why).advise("see what the service sends, or raise `document_mib`")
        })?;
        Ok(Answer { status, headers, body, url: None })
    }

    async fn judge(&self, answer: &Answer) -> Verdict {
        match answer.status {
            StatusCode::UNAUTHORIZED => Verdict::Stale,
            StatusCode::FORBIDDEN => Verdict::Denied,
            StatusCode::TOO_MANY_REQUESTS => Verdict::Busy(retry_after(&answer.headers, Utc::now())),
            StatusCode::SERVICE_UNAVAILABLE => match retry_after(&answer.headers, Utc::now()) {
                Some(wait) => Verdict::Busy(Some(wait)),
                None => Verdict::Failed,
            },
            StatusCode::REQUEST_TIMEOUT => Verdict::Failed,
            status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Verdict::Failed,
            _ => match &self.config.auth {
                Some(Auth::Session(session)) => match &session.expired {
                    Some(rule) => {
                        let found = answer.read(session.login.format, None, &[rule.path.as_str()]).await;
                        let said = found.ok().and_then(|found| found.places.into_iter().next().flatten());
                        if rule.holds(said.as_deref()) { Verdict::Stale } else { Verdict::Answered }
                    }
                    None => Verdict::Answered,
                },
                _ => Verdict::Answered,
            },
        }
    }

    /// An error of the connection. Addresses are left out of it: they may hold keys.
    fn transport(&self, doing: &str, error: reqwest::Error) -> SourceError {
        let error = error.without_url();
        if error.is_timeout() {
            let limit = if error.is_connect() { self.config.connect_timeout_s } else { self.config.timeout_s };
            return SourceError::new(ErrorKind::Unreachable, doing)
                .because(format!("no answer within {limit} seconds"))
                .advise("see whether host and port are right and a firewall is in between; raise `timeout_s` if the service is slow");
        }
        if let Some(tls) = tls_error(&error) {
            let (kind, advice) = match tls {
                rustls::Error::InvalidCertificate(_) => (
                    ErrorKind::BadConfig,
                    "give the authority of the service's certificate in `tls.ca`, and the name it is made for in `base_url`",
                ),
                rustls::Error::AlertReceived(_) => {
                    (ErrorKind::Denied, "the service may want a certificate of the hub: `tls.certificate` and `tls.key`")
                }
                _ => (ErrorKind::Unreachable, "see whether the port speaks TLS"),
            };
            return SourceError::new(kind, doing).because(tls.to_string()).advise(advice);
        }
        let kind = if error.is_builder() { ErrorKind::BadConfig } else { ErrorKind::Unreachable };
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            words.push_str(&format!(": {next}"));
            cause = next.source();
        }
        SourceError::new(kind, doing).because(words)
    }
}

/// What one attempt means.
enum Step {
    Answered(Answer),
    /// The token is no longer good.
    Stale(StatusCode, Option<Token>),
    Denied(StatusCode),
    /// Trying again is of no use.
    Ended(SourceError),
    Again(Last),
}

/// What came of the last attempt.
enum Last {
    Failed(SourceError),
    Answered(Answer, ErrorKind),
}

impl Last {
    /// Whether all wait already for as long as the service asked for.
    fn is_held(&self) -> bool {
        matches!(self, Self::Answered(_, ErrorKind::Throttled))
    }

    fn end(self, doing: &str, attempts: u32, stumble: Stumble) -> Result<Answer, SourceError> {
        match self {
            Self::Failed(error) => Err(error),
            Self::Answered(answer, _) if answer.status == StatusCode::INTERNAL_SERVER_ERROR && stumble == Stumble::IsAnAnswer => Ok(answer),
            Self::Answered(answer, kind) => {
                Err(SourceError::new(kind, doing).because(format!("the service answered {} {attempts} times", answer.status)))
            }
        }
    }
}

fn resting(doing: &str, rest: &Rest) -> SourceError {
    let left = rest.left.as_secs_f64().ceil();
    let why = format!("the service failed again and again, and is left alone for {left} more seconds; the last time: {}", rest.why);
    SourceError::new(ErrorKind::Unreachable, doing).because(why)
}

/// The service answers other streams: this one alone is in trouble, and the others need not wait for it.
fn alone(doing: &str, error: &SourceError) -> SourceError {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    SourceError::new(ErrorKind::StreamBroken, doing)
        .because(format!("{why}, while the service answers other streams"))
        .advise("see whether what is behind this path is up")
}

fn denied(doing: &str, status: StatusCode, is_alone: bool) -> SourceError {
    SourceError::new(if is_alone { ErrorKind::StreamBroken } else { ErrorKind::Denied }, doing)
        .because(format!("the service answered {status}"))
        .advise("see whether the account and its secret are right, and whether it may use this service")
}

fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(next) = cause {
        if let Some(tls) = next.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // An I/O error hides what it was made of from its own chain.
        let inner = next.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| next.source());
    }
    None
}
