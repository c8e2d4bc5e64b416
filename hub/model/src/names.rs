//! Names of systems and streams, checked once.

use std::fmt;
use std::sync::Arc;

/// A name that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a {what}: {why}")]
pub struct InvalidName {
    /// The text as it was given.
    pub name: String,
    /// What it was to name.
    pub what: &'static str,
    /// The rule it breaks.
    pub why: &'static str,
}

/// One source system of the province, such as `mot-cua`: lower-case letters, digits and hyphens, at most 48.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemName(Arc<str>);

impl SystemName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`InvalidName`] when it is empty, longer than 48 characters, or has anything but `a-z`, `0-9` and inner `-`.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let refuse = |why| Err(InvalidName { name: name.to_owned(), what: "system", why });
        if name.is_empty() || name.len() > 48 {
            return refuse("it needs 1 to 48 characters");
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return refuse("only a-z, 0-9 and - are allowed");
        }
        if name.starts_with('-') || name.ends_with('-') {
            return refuse("it may not begin or end with -");
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One table, endpoint or file set of a system, in its connector's own words: `public.ho_so`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Keeps a name as the connector spells it; any non-empty text is allowed (quoted and non-ASCII identifiers occur).
    ///
    /// # Errors
    /// [`InvalidName`] when it is empty.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName { name: String::new(), what: "stream", why: "it is empty" });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_names_are_fit_for_topics_and_metrics() {
        assert!(SystemName::new("mot-cua").is_ok());
        for bad in ["", "Mot-Cua", "mot_cua", "-a", "a-", "một-cửa", &"a".repeat(49)] {
            assert!(SystemName::new(bad).is_err(), "{bad:?} should be refused");
        }
    }
}
