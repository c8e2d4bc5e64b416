//! Logins: a token is had once, renewed before it is over, and had anew once where the service no longer takes it.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, Secret, SourceError};
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;

use crate::answer::Answer;
use crate::caller::Caller;
use crate::config::{Auth, CredentialsIn, Format, OAuth2, Request, Session};
use crate::request::{Built, build, header_name, secret_value};
use crate::template::Values;
use crate::trail::Trail;

/// How long a refused login is not tried again: accounts are locked by less.
const REFUSED: Duration = Duration::from_secs(20);

/// The login of one service.
#[derive(Debug, Default)]
pub(crate) struct Login {
    token: Option<Token>,
    logins: u64,
    refused: Option<(Instant, String)>,
}

/// A token that requests carry.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    number: u64,
    renew_at: Instant,
}

impl Caller {
    /// The token of the login, where it has one: the one that is there, or a new one.
    pub(crate) async fn token(&self, stream: &StreamName, trail: &Trail) -> Result<Option<Token>, SourceError> {
        let Some(auth @ (Auth::OAuth2(_) | Auth::Session(_))) = &self.config.auth else { return Ok(None) };
        let mut login = self.site.login.lock().await;
        if let Some(token) = login.token.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(Some(token.clone()));
        }
        if let Some((_, why)) = login.refused.as_ref().filter(|(at, _)| at.elapsed() < REFUSED) {
            return Err(SourceError::new(ErrorKind::Denied, "logging in").because(format!("it was refused a moment ago: {why}")));
        }
        let had = match auth {
            Auth::OAuth2(oauth2) => self.client_credentials(oauth2, stream, trail).await,
            Auth::Session(session) => self.session(session, stream, trail).await,
            Auth::ApiKey(_) | Auth::Basic(_) | Auth::Bearer(_) => return Ok(None),
        };
        match had {
            Ok((value, ttl)) => {
                login.logins += 1;
                // A tenth of its life, at most a minute, is enough for the requests that are under way.
                let life = ttl.saturating_sub((ttl / 10).min(Duration::from_secs(60)));
                let token = Token { value: Secret::new(value), number: login.logins, renew_at: Instant::now() + life };
                login.token = Some(token.clone());
                login.refused = None;
                tracing::debug!(%stream, ttl_s = ttl.as_secs(), "logged in");
                Ok(Some(token))
            }
            Err(error) => {
                if error.kind() == ErrorKind::Denied {
                    login.refused = Some((Instant::now(), error.report()));
                }
                Err(error)
            }
        }
    }

    /// The service no longer takes a token: unless another one was had meanwhile it is not used again.
    pub(crate) async fn forget(&self, stale: &Token) {
        let mut login = self.site.login.lock().await;
        if login.token.as_ref().is_some_and(|token| token.number == stale.number) {
            login.token = None;
        }
    }

    /// Puts the login onto a request.
    pub(crate) fn authorise(&self, built: &mut Built, token: Option<&Token>) -> Result<(), SourceError> {
        let mut set = |name: reqwest::header::HeaderName, value: String| -> Result<(), SourceError> {
            built.headers.insert(name, secret_value(&value, "of the login")?);
            Ok(())
        };
        if let Some(lgsp) = &self.config.lgsp {
            set(header_name("lgspaccesstoken")?, STANDARD.encode(lgsp.object().to_string()))?;
        }
        match &self.config.auth {
            None | Some(Auth::Session(_)) => Ok(()),
            Some(Auth::OAuth2(_)) => token.map_or(Ok(()), |token| set(AUTHORIZATION, format!("Bearer {}", token.value.reveal()))),
            Some(Auth::Bearer(token)) => set(AUTHORIZATION, format!("Bearer {}", token.reveal())),
            Some(Auth::Basic(basic)) => set(AUTHORIZATION, basic_value(&basic.user, &basic.password)),
            Some(Auth::ApiKey(key)) => {
                if let Some(header) = &key.header {
                    set(header_name(header)?, key.value.reveal().to_owned())?;
                }
                if let Some(query) = &key.query {
                    // An address that the service gave may carry the key already.
                    let others: Vec<_> = built
                        .url
                        .query_pairs()
                        .filter(|(name, _)| name != query)
                        .map(|pair| (pair.0.into_owned(), pair.1.into_owned()))
                        .collect();
                    built.url.query_pairs_mut().clear().extend_pairs(others).append_pair(query, key.value.reveal());
                }
                Ok(())
            }
        }
    }

    async fn client_credentials(&self, oauth2: &OAuth2, stream: &StreamName, trail: &Trail) -> Result<(String, Duration), SourceError> {
        let mut form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
        form.extend(oauth2.scope.as_ref().map(|scope| ("scope".to_owned(), scope.clone())));
        let mut values = Values::default();
        if oauth2.credentials == CredentialsIn::Form {
            form.push(("client_id".to_owned(), oauth2.client_id.clone()));
            form.push(("client_secret".to_owned(), "{password}".to_owned()));
            values.set("password", oauth2.client_secret.reveal());
        }
        let request = Request { path: oauth2.token_url.clone(), form: Some(form.into_iter().collect()), ..Request::default() };
        let mut built = build(&self.base, &request, &values, None)?;
        if oauth2.credentials == CredentialsIn::Header {
            let credentials = basic_value(&oauth2.client_id, &oauth2.client_secret);
            built.headers.insert(AUTHORIZATION, secret_value(&credentials, "of the login")?);
        }
        if let Some(lgsp) = &self.config.lgsp {
            built
                .headers
                .insert(header_name("lgspaccesstoken")?, secret_value(&STANDARD.encode(lgsp.object().to_string()), "of the login")?);
        }
        let doing = format!("asking {} for a token", self.place(&request));
        let answer = self.login(built, &request, &doing, stream, trail).await?;
        let found = answer.read(Format::Json, None, &["/access_token", "/expires_in"]).await.map_err(|why| unreadable(&doing, why))?;
        let [Some(token), expires_in] = <[_; 2]>::try_from(found.places).unwrap_or_default() else {
            return Err(unreadable(&doing, "it has no access_token".to_owned()));
        };
        let ttl_s = expires_in.and_then(|text| text.parse().ok()).unwrap_or(oauth2.ttl_s);
        Ok((token, seconds(ttl_s)))
    }

    async fn session(&self, session: &Session, stream: &StreamName, trail: &Trail) -> Result<(String, Duration), SourceError> {
        let values = Values::default().with("user", &session.user).with("password", session.password.reveal());
        let mut built = build(&self.base, &session.login, &values, None)?;
        self.authorise(&mut built, None)?;
        let doing = format!("logging in by {}", self.place(&session.login));
        let answer = self.login(built, &session.login, &doing, stream, trail).await?;
        let success = session.success.as_ref();
        let places = [session.token.as_str(), success.map_or("", |rule| rule.path.as_str())];
        let found = answer.read(session.login.format, None, &places).await.map_err(|why| unreadable(&doing, why))?;
        let [token, said] = <[_; 2]>::try_from(found.places).unwrap_or_default();
        if let Some(rule) = success.filter(|rule| !rule.holds(said.as_deref())) {
            let why = format!("{} is {}, not {}", rule.path, shown(said.as_deref()), rule.equals.0.join(" or "));
            return Err(SourceError::new(ErrorKind::Denied, doing).because(why).advise("see whether account and password are right"));
        }
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok((token, seconds(session.ttl_s))),
            None => Err(SourceError::new(ErrorKind::Denied, doing)
                .because(format!("the answer has no token at {}", session.token))
                .advise("see whether account and password are right; mend `auth.session.token` or `success` if they are")),
        }
    }

    /// A request for a token: what it holds and is answered is in no evidence, only that it was made.
    async fn login(&self, built: Built, request: &Request, doing: &str, stream: &StreamName, trail: &Trail) -> Result<Answer, SourceError> {
        let sent = self.send(built, doing).await;
        self.note_login(request, stream, trail, &sent);
        let answer = sent?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SourceError::new(ErrorKind::Denied, doing)
                .because(format!("the service answered {}", answer.status))
                .advise("see whether the account and its secret are right, and whether it is subscribed to the service")),
            StatusCode::NOT_FOUND => Err(SourceError::new(ErrorKind::BadConfig, doing)
                .because("the service answered 404 Not Found")
                .advise("mend the address in `auth`")),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(SourceError::new(ErrorKind::Throttled, doing).because("the service answered 429 Too Many Requests"))
            }
            status => Err(SourceError::new(ErrorKind::Unreachable, doing).because(format!("the service answered {status}"))),
        }
    }
}

/// What an answer says, shortened: a word of the service, never a row.
pub(crate) fn shown(said: Option<&str>) -> String {
    said.map_or_else(|| "absent".to_owned(), |said| format!("{:?}", said.chars().take(40).collect::<String>()))
}

fn basic_value(user: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
}

fn seconds(ttl_s: f64) -> Duration {
    Duration::from_secs_f64(if ttl_s.is_finite() { ttl_s.clamp(1.0, 365.0 * 86_400.0) } else { 3_600.0 })
}

fn unreadable(doing: &str, why: String) -> SourceError {
    SourceError::new(ErrorKind::BadConfig, doing).because(why).advise("see whether the address in `auth` is that of the login")
}
