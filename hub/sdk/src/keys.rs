//! Keys and digests of rows, in the forms that checkpoints hold.

use serde_json::Value;

/// A digest of a row's values for [`crate::Known::note`]: the same values give the same on every machine and in every version.
///
/// FNV-1a with 64 bits and a final mix. Two states of *one* key that collide would hide a change: 1 in 2^64 of them.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds one value; null is not the same as empty.
    pub fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.bytes(&[0xff]),
            Some(value) => {
                self.bytes(&(value.len() as u64).to_le_bytes());
                self.bytes(value);
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest of everything that was added.
    #[must_use]
    pub fn finish(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}

/// A key of several parts as one text, and back: a JSON list of texts, or the text itself where there is one part.
#[must_use]
pub fn join_key(parts: &[&str]) -> String {
    match parts {
        [only] if !only.starts_with('[') => (*only).to_owned(),
        parts => Value::from(parts.to_vec()).to_string(),
    }
}

/// The parts of a key that [`join_key`] made.
#[must_use]
pub fn split_key(key: &str) -> Vec<String> {
    if key.starts_with('[')
        && let Ok(parts) = serde_json::from_str(key)
    {
        return parts;
    }
    vec![key.to_owned()]
}

/// Writes a text so that it fits between tabs in one line of a checkpoint partition.
pub fn escape(key: &str, into: &mut String) {
    for letter in key.chars() {
        match letter {
            '\t' => into.push_str("\\t"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\\' => into.push_str("\\\\"),
            other => into.push(other),
        }
    }
}

/// The text that [`escape`] wrote.
#[must_use]
pub fn unescape(key: &str) -> Box<str> {
    if !key.contains('\\') {
        return key.into();
    }
    let mut plain = String::with_capacity(key.len());
    let mut letters = key.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_several_parts_come_apart_again() {
        for parts in [vec!["a"], vec!["[a"], vec!["", "x\"y"], vec!["1", "2", "3"]] {
            assert_eq!(split_key(&join_key(&parts)), parts);
        }
    }

    #[test]
    fn a_digest_tells_null_from_empty_and_where_a_value_ends() {
        let digest = |values: &[Option<&str>]| {
            let mut digest = Digest::default();
            values.iter().for_each(|value| digest.value(value.map(str::as_bytes)));
            digest.finish()
        };
        assert_ne!(digest(&[None]), digest(&[Some("")]));
        assert_ne!(digest(&[Some("ab"), Some("c")]), digest(&[Some("a"), Some("bc")]));
        assert_eq!(digest(&[Some("Đ")]), digest(&[Some("Đ")]));
    }
}
