//! Takes secrets and long numbers out of what a child says, before anybody reads it.

use hub_sdk::Secret;
use serde_json::Value;

use crate::config::ExecConfig;

/// Secrets of fewer bytes cannot be found without taking half of every text away.
const SHORTEST: usize = 4;
/// Digits from which on a number may be a person's: identity cards have 12, telephones 10.
const DIGITS: usize = 9;
/// What an error shows of one text at most.
const LONGEST: usize = 600;
/// Where rows begin in what sources say: answers of an API, the row that broke a rule of a database.
const ROWS: &[&str] = &["Request (body)", "Response (body)", "response body", "Response body", "DETAIL:"];

/// Knows what must never be shown.
#[derive(Clone, Default)]
pub(crate) struct Scrubber {
    words: Vec<String>,
    /// One secret is too short to be looked for: nothing that a child says is shown.
    hides_all: bool,
}

impl Scrubber {
    /// Knows the secrets of a configuration: those that are declared, and members of `config` whose names sound like one.
    pub(crate) fn of(config: &ExecConfig) -> Self {
        let mut scrubber = Self::default();
        config.secrets.values().map(Secret::reveal).for_each(|secret| scrubber.learn(secret));
        // A variable of few letters is a switch.
        let long = config.env.values().map(Secret::reveal).filter(|value| value.len() >= SHORTEST);
        long.for_each(|value| scrubber.learn(value));
        for (name, value) in &config.config.0 {
            scrubber.learn_members(name, value);
        }
        scrubber
    }

    /// Learns what sounds secret in a configuration that the child made.
    pub(crate) fn learn_members(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| self.learn_members(name, value)),
            Value::Array(values) => values.iter().for_each(|value| self.learn_members(name, value)),
            Value::String(text) if sounds_secret(name) && text.len() >= SHORTEST => self.learn(text),
            _ => {}
        }
    }

    fn learn(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        self.hides_all |= secret.len() < SHORTEST;
        let quoted = Value::from(secret).to_string();
        let forms = [secret.to_owned(), quoted[1..quoted.len() - 1].to_owned(), escaped(secret), percent(secret)];
        for form in forms {
            if !self.words.contains(&form) {
                self.words.push(form);
            }
        }
        // Lines of a key come one by one.
        if secret.contains('\n') {
            secret.lines().filter(|line| line.len() >= SHORTEST).for_each(|line| self.words.push(line.to_owned()));
        }
        self.words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    }

    /// The text without secrets, without rows and long numbers, and not longer than an error can hold.
    pub(crate) fn scrub(&self, text: &str) -> String {
        if self.hides_all {
            return "(not shown, since a secret of the configuration is too short to be taken out of it)".to_owned();
        }
        let mut clean = before_rows(text).to_owned();
        for word in &self.words {
            if clean.contains(word.as_str()) {
                clean = clean.replace(word.as_str(), "***");
            }
        }
        cut(&without_numbers(&without_objects(&clean)))
    }
}

/// The text up to where rows begin in it.
pub(crate) fn before_rows(text: &str) -> &str {
    let end = ROWS.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    &text[..end]
}

/// Without what stands in braces: objects as JSON or Python writes them are rows or configurations.
fn without_objects(text: &str) -> String {
    let (mut clean, mut depth) = (String::with_capacity(text.len()), 0_usize);
    for letter in text.chars() {
        match letter {
            '{' => {
                if depth == 0 {
                    clean.push_str("{…}");
                }
                depth += 1;
            }
            '}' if depth > 0 => depth -= 1,
            letter if depth == 0 => clean.push(letter),
            _ => {}
        }
    }
    clean
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["pass", "pwd", "secret", "token", "key", "credential", "private", "auth", "connection_string", "sqlalchemy_url"]
        .iter()
        .any(|word| name.contains(word))
}

/// As Python writes it in JSON and in `repr` of bytes: everything beyond ASCII as `\uXXXX`.
fn escaped(secret: &str) -> String {
    let mut text = String::new();
    for letter in secret.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

fn percent(secret: &str) -> String {
    let mut text = String::new();
    for byte in secret.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn without_numbers(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let digits = rest[start..].find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len() - start);
        clean.push_str(&rest[..start]);
        if digits >= DIGITS {
            clean.push_str("#########");
        } else {
            clean.push_str(&rest[start..start + digits]);
        }
        rest = &rest[start + digits..];
    }
    clean.push_str(rest);
    clean
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn scrubber(config: Value) -> Scrubber {
        Scrubber::of(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn secrets_are_taken_out_in_every_form_that_a_child_writes() {
        let scrubber = scrubber(json!({
            "protocol": "singer", "command": ["t"], "secrets": {"/p": "mật \"khẩu\"/7"}, "env": {"T": "tok-en"},
            "config": {"db": {"password": "trong-config"}, "host": "dia-chi"},
        }));
        for said in [
            "x mật \"khẩu\"/7 y",
            r#"["mật \"khẩu\"/7"]"#,
            r#"m\u1eadt "kh\u1ea9u"/7"#,
            "u:m%E1%BA%ADt%20%22kh%E1%BA%A9u%22%2F7@",
            "tok-en",
            "trong-config",
        ] {
            let shown = scrubber.scrub(said);
            assert!(shown.contains("***") && !shown.contains("khẩu") && !shown.contains("kh\\u"), "{said}: {shown}");
        }
        assert_eq!(scrubber.scrub("dia-chi"), "dia-chi");
    }

    #[test]
    fn numbers_of_persons_are_taken_out_and_others_stay() {
        assert_eq!(Scrubber::default().scrub("số 079090000001, cổng 5432, 0912345678"), "số #########, cổng 5432, #########");
    }

    #[test]
    fn rows_that_a_source_shows_are_taken_out() {
        let said = "'GET' failed with '500'. Response (body): 'Nguyễn Văn A'";
        assert_eq!(Scrubber::default().scrub(said), "'GET' failed with '500'. ");
        assert_eq!(Scrubber::default().scrub("KeyError in {'ten': {'ho': 'Nguyễn'}} at 3"), "KeyError in {…} at 3");
    }

    #[test]
    fn a_short_secret_hides_everything() {
        let scrubber = scrubber(json!({"protocol": "singer", "command": ["t"], "secrets": {"/p": "ab"}}));
        assert!(!scrubber.scrub("a table about abbots").contains("table"));
    }
}
