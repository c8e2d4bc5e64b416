//! What can go wrong with a registry, classified so that a caller knows what follows.

/// Why a registry did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The client's own settings cannot work.
    #[error("the settings of the schema registry cannot be used: {0}")]
    Settings(String),
    /// The registry does not answer, or not now. Comes right by itself.
    #[error("could not {doing}: the schema registry {registry} cannot be used now: {why}; trying again later may help")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// Where the registry is, without user and password.
        registry: String,
        /// What happened.
        why: String,
    },
    /// The login or a right is refused.
    #[error("could not {doing}: the schema registry {registry} refuses this user ({why}); correct its user and password, or its rights")]
    Denied {
        /// What was being done.
        doing: &'static str,
        /// Where the registry is.
        registry: String,
        /// Its words.
        why: String,
    },
    /// The schema does not fit the subject's earlier versions.
    #[error("the schema does not fit the earlier versions of its subject: {}", messages.join(", "))]
    Incompatible {
        /// What does not fit, in Confluent's words.
        messages: Vec<String>,
    },
    /// The schema is not one, or the registry's mode forbids it.
    #[error("could not {doing}: {why} (error {code})")]
    Invalid {
        /// What was being done.
        doing: &'static str,
        /// The registry's error code.
        code: u32,
        /// Its words.
        why: String,
    },
    /// No such subject, version or id.
    #[error("could not {doing}: {why} (error {code})")]
    Missing {
        /// What was being done.
        doing: &'static str,
        /// The registry's error code.
        code: u32,
        /// Its words.
        why: String,
    },
    /// An answer that is not understood.
    #[error("could not {doing}: the schema registry {registry} answered something unexpected: {why}; see that its URL is right")]
    Other {
        /// What was being done.
        doing: &'static str,
        /// Where the registry is.
        registry: String,
        /// What it answered, in short.
        why: String,
    },
}

impl ClientError {
    /// Whether it comes right by itself.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Classifies an answer by its HTTP status, its error code and its words.
    pub(crate) fn from_answer(doing: &'static str, registry: &str, status: u16, code: u32, why: String) -> Self {
        let registry = registry.to_owned();
        match status {
            401 | 403 => Self::Denied { doing, registry, why },
            // 40902 and above are conflicts of other things than schemas.
            409 if matches!(code, 409 | 40901) => Self::Incompatible { messages: differences(&why) },
            404 if code > 40_000 => Self::Missing { doing, code, why },
            422 => Self::Invalid { doing, code, why },
            408 | 429 | 500..=599 => Self::Unreachable { doing, registry, why: format!("HTTP {status}: {why}") },
            _ => Self::Other { doing, registry, why: format!("HTTP {status}: {why}") },
        }
    }
}

/// Takes the differences out of a refusal: `… details: [{errorType:…}, {oldSchemaVersion: 1}, …]`.
fn differences(message: &str) -> Vec<String> {
    let Some((_, details)) = message.split_once("details: [") else { return vec![message.to_owned()] };
    let details = details.strip_suffix(']').unwrap_or(details);
    // The old schema among them is JSON with braces of its own; these are where each of ours begins.
    let starts = ["{errorType:", "{oldSchemaVersion:", "{oldSchema:", "{validateFields:", "{compatibility:"];
    let mut cuts: Vec<usize> = starts.iter().flat_map(|start| details.match_indices(start).map(|(at, _)| at)).collect();
    cuts.sort_unstable();
    cuts.push(details.len());
    if cuts.first() != Some(&0) {
        return vec![message.to_owned()];
    }
    cuts.windows(2).map(|pair| details[pair[0]..pair[1]].trim_end_matches([',', ' ']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classified() {
        let class = |status, code| ClientError::from_answer("x", "r", status, code, String::new());
        assert!(matches!(class(401, 401), ClientError::Denied { .. }));
        assert!(matches!(class(403, 40301), ClientError::Denied { .. }));
        assert!(matches!(class(404, 40401), ClientError::Missing { .. }));
        assert!(matches!(class(404, 404), ClientError::Other { .. }), "a path that is no registry's");
        assert!(matches!(class(409, 409), ClientError::Incompatible { .. }));
        assert!(matches!(class(422, 42201), ClientError::Invalid { .. }));
        assert!(matches!(class(500, 50003), ClientError::Unreachable { .. }));
        assert!(matches!(class(302, 0), ClientError::Other { .. }));
    }

    #[test]
    fn differences_are_taken_apart() {
        let message = "Schema being registered is incompatible with an earlier schema for subject \"s\", details: \
            [{errorType:'A', description:'x, y', additionalInfo:'b'}, {errorType:'B'}, {oldSchemaVersion: 1}, \
            {oldSchema: '{\"type\":\"map\",\"values\":\"int\"}'}, {validateFields: 'false', compatibility: 'FULL'}]";
        assert_eq!(
            differences(message),
            [
                "{errorType:'A', description:'x, y', additionalInfo:'b'}",
                "{errorType:'B'}",
                "{oldSchemaVersion: 1}",
                "{oldSchema: '{\"type\":\"map\",\"values\":\"int\"}'}",
                "{validateFields: 'false', compatibility: 'FULL'}",
            ]
        );
        assert_eq!(differences("no"), ["no"]);
    }
}
