//! Faults of a configuration that can be told offline, each with its place.

use hub_sdk::ConfigFault;

use super::{Auth, Format, HttpConfig, HttpStream, Keys, Mode, Paging, Request};
use crate::mark::{Mark, is_format, time_format};
use crate::template::{ALWAYS, names};

/// Every fault of a configuration.
pub(super) fn faults(config: &HttpConfig) -> Vec<ConfigFault> {
    let mut faults = Faults::default();
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let base = reqwest::Url::parse(&config.base_url);
    faults.add(
        !is_address(&config.base_url) || !base.is_ok_and(|base| base.has_host()),
        "/base_url",
        "is no address; use https://host or http://host:port",
    );
    faults.add(config.base_url.contains(['?', '#', '@']), "/base_url", "has a query or a login in it; use `query`, `auth` or `headers`");
    let is_time = |seconds: f64, longest: f64| seconds.is_finite() && seconds > 0.0 && seconds <= longest;
    faults.add(!is_time(config.timeout_s, 3_600.0), "/timeout_s", "is out of range; use up to 3600 seconds, such as 60");
    faults.add(!is_time(config.connect_timeout_s, 600.0), "/connect_timeout_s", "is out of range; use up to 600 seconds, such as 15");
    faults.add(!is_time(config.every_s, 2_592_000.0), "/every_s", "is out of range; use up to 2592000 seconds, such as 300");
    faults.add(!(1..=2_048).contains(&config.document_mib), "/document_mib", "is out of range; use 1 to 2048, such as 64");
    faults.add(config.tls.certificate.is_some() != config.tls.key.is_some(), "/tls", "`certificate` and `key` belong together");
    faults.add(config.rate.per_minute == Some(0), "/rate/per_minute", "is 0; leave it out for no limit");
    faults.add(config.rate.per_day == Some(0), "/rate/per_day", "is 0; leave it out for no limit");
    faults.add(!(-12..=14).contains(&config.rate.utc_offset_h), "/rate/utc_offset_h", "is out of range; use -12 to 14, such as 7");
    faults.add(!(1..=64).contains(&config.rate.concurrent), "/rate/concurrent", "is out of range; use 1 to 64, such as 2");
    faults.add(!(1..=20).contains(&config.retry.attempts), "/retry/attempts", "is out of range; use 1 to 20, such as 4");
    let is_pause = config.retry.first_s.is_finite() && config.retry.first_s >= 0.0 && config.retry.first_s <= config.retry.longest_s;
    faults.add(!is_pause || !is_time(config.retry.longest_s, 3_600.0), "/retry", "`first_s` is at most `longest_s`, and that at most 3600");
    faults.add(config.breaker.failures == 0, "/breaker/failures", "is 0; use 1 or more, such as 8");
    faults.add(!is_time(config.breaker.rest_s, 86_400.0), "/breaker/rest_s", "is out of range; use up to 86400 seconds, such as 60");
    faults.add(config.streams.is_empty(), "/streams", "is empty; name each stream with the path of its request");
    auth(config, &mut faults);
    for (name, stream) in &config.streams {
        let at = format!("/streams/{}", hub_sdk::pointer_part(name));
        let is_inside = config.streams.keys().any(|other| name.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/')));
        faults.add(is_inside, &at, "begins with the name of another stream and `/`; name it otherwise");
        let has_session = matches!(config.auth, Some(Auth::Session(_)));
        streams(stream, &at, has_session, &mut faults);
    }
    faults.0
}

#[derive(Default)]
struct Faults(Vec<ConfigFault>);

impl Faults {
    fn add(&mut self, wrong: bool, pointer: &str, message: &str) {
        if wrong {
            self.0.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
        }
    }
}

fn auth(config: &HttpConfig, faults: &mut Faults) {
    match &config.auth {
        Some(Auth::OAuth2(oauth2)) => {
            faults.add(oauth2.client_id.is_empty(), "/auth/oauth2/client_id", "is empty");
            faults.add(oauth2.token_url.is_empty(), "/auth/oauth2/token_url", "is empty; leave it out for /token");
        }
        Some(Auth::ApiKey(key)) => {
            let places = usize::from(key.header.is_some()) + usize::from(key.query.is_some());
            faults.add(places != 1, "/auth/api_key", "needs `header` or `query`, and not both");
        }
        Some(Auth::Session(session)) => {
            faults.add(session.token.is_empty(), "/auth/session/token", "is empty; say where the token is in the answer, such as /session");
            request(&session.login, "/auth/session/login", &["user", "password"], faults);
            let carries = |text: &str| names(text).any(|name| name == "token");
            let header = config.headers.values().any(|value| carries(value.reveal()));
            let streams = config.streams.values().all(|stream| templates(&stream.request()).iter().any(|text| carries(text)));
            let says = "no request carries the token: write {token} in `headers`, or in the query, header or body of each stream";
            faults.add(!header && !streams, "/auth/session", says);
        }
        Some(Auth::Basic(_) | Auth::Bearer(_)) | None => {}
    }
}

fn streams(stream: &HttpStream, at: &str, has_session: bool, faults: &mut Faults) {
    let mut allowed = Vec::new();
    if has_session {
        allowed.push("token");
    }
    match &stream.paging {
        Some(Paging::Page(by)) => {
            allowed.extend(["page", "size"]);
            faults.add(by.size == Some(0), &format!("{at}/paging/page/size"), "is 0; leave it out where pages have no fixed size");
        }
        Some(Paging::Offset(by)) => {
            allowed.extend(["offset", "size"]);
            faults.add(by.size == 0, &format!("{at}/paging/offset/size"), "is 0; give the rows of a page");
        }
        Some(Paging::Cursor(_)) => allowed.push("cursor"),
        Some(Paging::Link(_) | Paging::Next(_)) | None => {}
    }
    let is_list = matches!(stream.mode, Mode::Whole | Mode::Watermark(_));
    faults.add(!is_list && stream.paging.is_some(), &format!("{at}/paging"), "is for lists: `mode: whole` or `watermark`");
    faults.add(stream.key.is_empty(), &format!("{at}/key"), "is empty; name the columns that identify a row");
    faults.add(stream.delete_after_looks.is_some_and(|looks| !(1..=2).contains(&looks)), &format!("{at}/delete_after_looks"), "is 1 or 2");
    faults.add(stream.shrink_guard > 100, &format!("{at}/shrink_guard"), "is more than 100 per cent");
    faults.add(stream.every_s.is_some_and(|every| every.is_nan() || every <= 0.0), &format!("{at}/every_s"), "must be more than 0");
    mode(stream, at, &mut allowed, faults);
    let own = if is_list { crate::paging::list_request(stream) } else { stream.request() };
    request(&own, at, &allowed, faults);
    uses(stream, &own, at, faults);
    faults.add(
        stream.format == Format::Xml && stream.rows.is_empty(),
        &format!("{at}/rows"),
        "is empty; the rows of XML have a path, such as /Envelope/Body/row",
    );
}

/// What a request must say, and does not.
fn uses(stream: &HttpStream, own: &Request, at: &str, faults: &mut Faults) {
    let uses = |name: &str| templates(own).iter().any(|text| names(text).any(|used| used == name));
    match &stream.paging {
        Some(Paging::Page(_)) => {
            faults.add(!uses("page"), &format!("{at}/paging/page"), "no request says the page: give `param`, or write {page}")
        }
        Some(Paging::Offset(_)) => {
            faults.add(!uses("offset"), &format!("{at}/paging/offset"), "no request says the offset: give `param`, or write {offset}");
        }
        Some(Paging::Cursor(_)) => {
            faults.add(!uses("cursor"), &format!("{at}/paging/cursor"), "no request says the cursor: give `param`, or write {cursor}");
        }
        Some(Paging::Link(_) | Paging::Next(_)) | None => {}
    }
    match &stream.mode {
        Mode::Watermark(watermark) => {
            let at = format!("{at}/mode/watermark");
            let message = "{until} is a time: give `format` or `send_format` as one";
            faults.add(uses("until") && time_format(watermark).is_none(), &format!("{at}/format"), message);
            let is_open = watermark.window_s.is_some() && !uses("until");
            faults.add(is_open, &format!("{at}/window_s"), "no request says where a window ends: write {until}");
            faults.add(!uses("since"), &at, "no request says the watermark: give `param`, or write {since}");
        }
        Mode::Lookup(_) => {
            let uses_key = templates(own).iter().any(|text| names(text).any(|used| used == "key" || used.starts_with("key.")));
            faults.add(!uses_key, &format!("{at}/mode/lookup"), "no request says the key: write {key} in the path, query or body");
        }
        Mode::Push(_) => {
            faults.add(!uses("ticket"), &format!("{at}/mode/push"), "no request says the ticket: write {ticket} in the stream's request")
        }
        Mode::Whole => {}
    }
}

fn mode(stream: &HttpStream, at: &str, allowed: &mut Vec<&str>, faults: &mut Faults) {
    let is_column = |column: &Option<String>| column.as_ref().is_none_or(|column| stream.key.contains(column));
    let is_time = |seconds: f64| seconds.is_finite() && seconds > 0.0;
    match &stream.mode {
        Mode::Whole => {}
        Mode::Watermark(watermark) => {
            allowed.extend(["since", "until"]);
            let at = format!("{at}/mode/watermark");
            let is_clock = watermark.field.is_none() && !watermark.format.contains('%');
            faults.add(
                !is_format(&watermark.format) || is_clock,
                &format!("{at}/format"),
                "is no format of a time, such as %d/%m/%Y %H:%M:%S, nor `number` or `text`",
            );
            let sends = watermark.send_format.as_deref();
            faults.add(
                sends.is_some_and(|sends| !is_format(sends) || !sends.contains('%')),
                &format!("{at}/send_format"),
                "is no format of a time, such as %d/%m/%Y",
            );
            faults.add(watermark.format == "text" && watermark.overlap_s > 0, &format!("{at}/overlap_s"), "a text has no overlap");
            faults.add(watermark.full_every_s.is_some_and(|every| !is_time(every)), &format!("{at}/full_every_s"), "must be more than 0");
            faults.add(watermark.window_s == Some(0), &format!("{at}/window_s"), "is 0; leave it out for no limit");
            if watermark.window_s.is_some() {
                let starts = |start: &String| matches!(Mark::parse(start, &watermark.format), Some(Mark::Time(_)));
                let message = "`window_s` needs a time to start from, in the form of `format`";
                faults.add(!watermark.start.as_ref().is_some_and(starts), &format!("{at}/start"), message);
                let message = "cannot be: a request may span no more than `window_s`";
                faults.add(watermark.full_every_s.is_some(), &format!("{at}/full_every_s"), message);
            }
        }
        Mode::Lookup(lookup) => {
            allowed.extend(["key", "key."]);
            let at = format!("{at}/mode/lookup");
            faults.add(
                !is_column(&lookup.key_column),
                &format!("{at}/key_column"),
                "must be one of `key`: a row belongs to the key that was asked for",
            );
            faults.add(!is_time(lookup.ttl_s), &format!("{at}/ttl_s"), "must be more than 0");
            faults.add(!is_time(lookup.negative_ttl_s), &format!("{at}/negative_ttl_s"), "must be more than 0");
            limits(lookup.per_minute, lookup.per_day, lookup.max_keys, &at, faults);
            keys(&lookup.keys, &at, faults);
        }
        Mode::Push(push) => {
            allowed.extend(["key", "key.", "ticket"]);
            let at = format!("{at}/mode/push");
            faults.add(
                !is_column(&push.key_column),
                &format!("{at}/key_column"),
                "must be one of `key`: a row belongs to the key that was submitted",
            );
            faults.add(
                push.submit.ticket.is_empty(),
                &format!("{at}/submit/ticket"),
                "is empty; say where the ticket is in the answer, such as /ticket",
            );
            faults.add(!is_time(push.poll_s), &format!("{at}/poll_s"), "must be more than 0");
            faults.add(!is_time(push.give_up_s), &format!("{at}/give_up_s"), "must be more than 0");
            limits(push.per_minute, push.per_day, push.max_keys, &at, faults);
            keys(&push.keys, &at, faults);
            let mut known = vec!["key", "key.", "submission"];
            known.extend(allowed.iter().copied().filter(|name| *name == "token"));
            request(&push.submit.request, &format!("{at}/submit/request"), &known, faults);
        }
    }
}

fn limits(per_minute: Option<u32>, per_day: Option<u32>, max_keys: usize, at: &str, faults: &mut Faults) {
    faults.add(per_minute == Some(0), &format!("{at}/per_minute"), "is 0; leave it out for no limit");
    faults.add(per_day == Some(0), &format!("{at}/per_day"), "is 0; leave it out for no limit");
    faults.add(!(1..=20_000_000).contains(&max_keys), &format!("{at}/max_keys"), "is out of range; use up to 20000000");
}

fn keys(keys: &Keys, at: &str, faults: &mut Faults) {
    match keys {
        Keys::Topic(topic) => {
            faults.add(topic.name.is_empty(), &format!("{at}/keys/topic/name"), "is empty; name a canonical topic");
            faults.add(topic.field.is_empty(), &format!("{at}/keys/topic/field"), "is empty; name a field of its records");
        }
        Keys::Sql(sql) => {
            faults.add(
                sql.query.trim().is_empty(),
                &format!("{at}/keys/sql/query"),
                "is empty; give a SELECT whose first column is the key",
            );
            faults.add(sql.every_s.is_nan() || sql.every_s <= 0.0, &format!("{at}/keys/sql/every_s"), "must be more than 0");
        }
    }
}

/// Faults of one request: its bodies, and placeholders that have no value here.
fn request(request: &Request, at: &str, allowed: &[&str], faults: &mut Faults) {
    let bodies = [request.json.is_some(), request.xml.is_some(), request.form.is_some()];
    faults.add(bodies.iter().filter(|is_there| **is_there).count() > 1, at, "has more than one body: give `json`, `xml` or `form`");
    let is_signed = templates(request).iter().any(|text| names(text).any(|name| name == "signature"));
    faults.add(is_signed != request.signature.is_some(), at, "`signature` and {signature} belong together");
    let signed = request.signature.iter().map(|signature| signature.reveal().to_owned());
    for text in templates(request).into_iter().chain(signed) {
        for name in names(&text) {
            let is_allowed = ALWAYS.contains(&name)
                || name.starts_with("now:")
                || allowed.contains(&name)
                || (name.starts_with("key.") && allowed.contains(&"key."));
            faults.add(!is_allowed, at, &format!("has {{{name}}}, which stands for nothing in this request"));
        }
    }
}

/// Every text of a request that may have placeholders.
fn templates(request: &Request) -> Vec<String> {
    let mut texts = vec![request.path.clone()];
    texts.extend(request.query.values().cloned());
    texts.extend(request.headers.values().map(|value| value.reveal().to_owned()));
    texts.extend(request.form.iter().flat_map(|form| form.values().cloned()));
    texts.extend(request.xml.clone());
    if let Some(json) = &request.json {
        strings(json, &mut texts);
    }
    texts
}

fn strings(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| strings(value, into)),
        serde_json::Value::Object(members) => members.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}
