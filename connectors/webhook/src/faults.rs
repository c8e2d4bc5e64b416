//! Faults of a configuration that can be told without the network, each with its place.

use hub_sdk::ConfigFault;

use crate::config::{Algorithm, Auth, Endpoint, Format, WebhookConfig};

impl WebhookConfig {
    /// Every fault that can be found without the network, each with its place.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
            }
        };
        let within = |value: f64| (0.05..=3_600.0).contains(&value);
        fault(self.address().is_none(), "/listen", "is no address with a port; use 0.0.0.0:8443, or 127.0.0.1:8090 behind a proxy");
        fault(self.max_connections == 0, "/max_connections", "is 0; use at least 1, such as 1024");
        fault(!(1..=65_536).contains(&self.waiting_mib), "/waiting_mib", "is out of range; use 1 to 65536, such as 64");
        fault(!within(self.head_within_s), "/head_within_s", "is out of range; use 0.05 to 3600 seconds, such as 10");
        fault(!within(self.body_within_s), "/body_within_s", "is out of range; use 0.05 to 3600 seconds, such as 30");
        fault(!within(self.answer_within_s), "/answer_within_s", "is out of range; use 0.05 to 3600 seconds, such as 15");
        fault(self.streams.is_empty(), "/streams", "is empty; name each stream with its path and who may send");
        for (name, stream) in &self.streams {
            let twice = self.streams.iter().any(|(other, one)| other < name && one.path == stream.path);
            for (field, message) in self.faults_of(stream, twice) {
                let name = hub_sdk::pointer_part(name);
                faults.push(ConfigFault { pointer: format!("/streams/{name}{field}"), message });
            }
        }
        faults
    }

    fn faults_of(&self, stream: &Endpoint, twice: bool) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, field: &'static str, message: &str| {
            if wrong {
                faults.push((field, message.to_owned()));
            }
        };
        let plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '?' | '#');
        fault(
            !stream.path.starts_with('/') || !stream.path.chars().all(plain),
            "/path",
            "is no path; use / and plain letters, such as /nhan/tien-do",
        );
        fault(twice, "/path", "is the path of another stream too");
        match &stream.auth {
            Auth::None => {
                let is_loopback = self.address().is_none_or(|address| address.ip().is_loopback());
                fault(!is_loopback, "/auth", "lets anyone in from the network; use hmac, bearer or mtls, or listen on 127.0.0.1");
            }
            Auth::Hmac(signed) => {
                fault(signed.secret.reveal().is_empty(), "/auth/hmac/secret", "is empty");
                let is_mixed = signed.algorithm == Algorithm::Sha512 && signed.prefix == "sha256=";
                fault(is_mixed, "/auth/hmac/prefix", "says sha256 while the algorithm is sha512; give the prefix that the sender writes");
                let named = std::iter::once(&signed.header).chain(&signed.signed_headers);
                let mut named = named.chain(signed.timestamp.iter().map(|timestamp| &timestamp.header));
                fault(!named.all(|name| is_header(name)), "/auth/hmac", "names a header that can be none");
            }
            Auth::Bearer(bearer) => fault(bearer.token.reveal().is_empty(), "/auth/bearer/token", "is empty"),
            Auth::Mtls(_) => {
                let has_authority = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
                fault(!has_authority, "/auth/mtls", "needs `tls` with a `client_ca`: the authority of the senders' certificates");
            }
        }
        faults.extend(stream.faults());
        faults
    }
}

impl Endpoint {
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, field: &'static str, message: &str| {
            if wrong {
                faults.push((field, message.to_owned()));
            }
        };
        let has_rows = matches!(self.format, Format::Json | Format::Xml);
        fault(!self.rows.is_empty() && !has_rows, "/rows", "is for `format: json` and `xml` alone");
        fault(self.attachments.is_some() && self.format != Format::Edxml, "/attachments", "is for `format: edxml` alone");
        fault(
            self.attachments.is_none() && self.format == Format::Edxml,
            "/attachments",
            "is missing; give the folder in which attachments are kept",
        );
        fault(!(1..=256 << 20).contains(&self.max_bytes), "/max_bytes", "is out of range; use 1 to 268435456, such as 1048576");
        fault(!(1..=1_000_000).contains(&self.max_rows), "/max_rows", "is out of range; use 1 to 1000000, such as 10000");
        fault(self.max_waiting == 0, "/max_waiting", "is 0; use at least 1, such as 1000");
        let is_rate = self.rate_per_s.is_none_or(|rate| (0.001..=1_000_000.0).contains(&rate));
        fault(!is_rate, "/rate_per_s", "is out of range; use 0.001 to 1000000");
        if let Some(op) = &self.op {
            fault(self.key.is_empty(), "/key", "is empty; an update or a delete needs the columns that identify its row");
            let values: Vec<&String> = op.create.iter().chain(&op.update).chain(&op.delete).collect();
            let twice = values.iter().enumerate().any(|(place, value)| values[..place].contains(value));
            fault(twice, "/op", "has one value for two operations");
            fault(op.field.is_empty(), "/op/field", "is empty; name the column that says what happened");
        }
        if let Some(idempotency) = &self.idempotency {
            let ways = [idempotency.header.is_some(), !idempotency.fields.is_empty(), idempotency.body];
            let is_one = ways.iter().filter(|way| **way).count() == 1;
            fault(!is_one, "/idempotency", "needs one of `header`, `fields` and `body`");
            let is_named = idempotency.header.as_ref().is_none_or(|name| is_header(name));
            fault(!is_named, "/idempotency/header", "can be no header");
            fault(idempotency.window_s == 0, "/idempotency/window_s", "is 0; use the time for which senders repeat, such as 86400");
            fault(idempotency.keys == 0, "/idempotency/keys", "is 0; use the most requests of a window, such as 1000000");
        }
        faults
    }
}

fn is_header(name: &str) -> bool {
    hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn pointers(config: serde_json::Value) -> Vec<String> {
        serde_json::from_value::<WebhookConfig>(config).unwrap().faults().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert!(pointers(json!({"listen": "127.0.0.1:1", "streams": {"s": {"path": "/s", "auth": "none"}}})).is_empty());
        let streams = json!({
            "anyone": {"path": "/a", "auth": "none"},
            "mixed": {"path": "/a", "auth": {"hmac": {"secret": "", "algorithm": "sha512", "header": "a b"}}},
            "shown": {"path": "b?c", "auth": {"mtls": {}}, "format": "ndjson", "rows": "/x", "attachments": "a"},
            "told": {"path": "/t", "auth": {"bearer": {"token": ""}}, "format": "edxml", "op": {"field": "", "create": ["x"], "delete": ["x"]}},
            "twice": {"path": "/w", "auth": {"bearer": {"token": "x"}}, "rate_per_s": 0, "max_bytes": 0, "max_rows": 0, "max_waiting": 0,
                      "idempotency": {"header": "a b", "body": true, "window_s": 0, "keys": 0}},
        });
        let config = json!({"listen": "0.0.0.0:1", "streams": streams, "max_connections": 0, "waiting_mib": 0, "head_within_s": 0,
                            "body_within_s": 0, "answer_within_s": 0});
        assert_eq!(
            pointers(config),
            [
                "/max_connections",
                "/waiting_mib",
                "/head_within_s",
                "/body_within_s",
                "/answer_within_s",
                "/streams/anyone/auth",
                "/streams/mixed/path",
                "/streams/mixed/auth/hmac/secret",
                "/streams/mixed/auth/hmac/prefix",
                "/streams/mixed/auth/hmac",
                "/streams/shown/path",
                "/streams/shown/auth/mtls",
                "/streams/shown/rows",
                "/streams/shown/attachments",
                "/streams/told/auth/bearer/token",
                "/streams/told/attachments",
                "/streams/told/key",
                "/streams/told/op",
                "/streams/told/op/field",
                "/streams/twice/max_bytes",
                "/streams/twice/max_rows",
                "/streams/twice/max_waiting",
                "/streams/twice/rate_per_s",
                "/streams/twice/idempotency",
                "/streams/twice/idempotency/header",
                "/streams/twice/idempotency/window_s",
                "/streams/twice/idempotency/keys",
            ]
        );
        assert_eq!(pointers(json!({"listen": "8443", "streams": {}})), ["/listen", "/streams"]);
    }
}
