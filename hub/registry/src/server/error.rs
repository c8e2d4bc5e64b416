//! What a registry answers instead of a result: Confluent's error codes, HTTP statuses and words.

use serde::Serialize;

use crate::compat::UnknownLevel;

/// An error as the registry's HTTP interface answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (error {code})")]
pub struct ApiError {
    /// Confluent's error code: 40401, 42201 …; for some the HTTP status itself.
    pub code: u32,
    /// What is wrong and, where it is not plain, what to do.
    pub message: String,
    /// Why a schema does not fit, one message a difference; empty for all other errors.
    pub differences: Vec<String>,
}

/// Body of an error.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'a> {
    error_code: u32,
    message: &'a str,
}

impl ApiError {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), differences: Vec::new() }
    }

    /// The HTTP status: the first three digits of the code.
    #[must_use]
    pub fn status(&self) -> u16 {
        let mut status = self.code;
        while status >= 1_000 {
            status /= 10;
        }
        u16::try_from(status).unwrap_or(500)
    }

    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { error_code: self.code, message: &self.message }
    }

    pub(crate) fn subject_not_found(subject: &str) -> Self {
        Self::new(40401, format!("Subject '{subject}' not found."))
    }

    pub(crate) fn version_not_found(version: impl std::fmt::Display) -> Self {
        Self::new(40402, format!("Version {version} not found."))
    }

    pub(crate) fn schema_not_found() -> Self {
        Self::new(40403, "Schema not found")
    }

    pub(crate) fn id_not_found(id: u32) -> Self {
        Self::new(40403, format!("Schema {id} not found"))
    }

    pub(crate) fn subject_soft_deleted(subject: &str) -> Self {
        Self::new(40404, format!("Subject '{subject}' was soft deleted.Set permanent=true to delete permanently"))
    }

    pub(crate) fn subject_not_soft_deleted(subject: &str) -> Self {
        Self::new(40405, format!("Subject '{subject}' was not deleted first before being permanently deleted"))
    }

    pub(crate) fn version_soft_deleted(subject: &str, version: u32) -> Self {
        Self::new(40406, format!("Subject '{subject}' Version {version} was soft deleted.Set permanent=true to delete permanently"))
    }

    pub(crate) fn version_not_soft_deleted(subject: &str, version: u32) -> Self {
        Self::new(40407, format!("Subject '{subject}' Version {version} was not deleted first before being permanently deleted"))
    }

    pub(crate) fn level_not_configured(subject: &str) -> Self {
        Self::new(40408, format!("Subject '{subject}' does not have subject-level compatibility configured"))
    }

    pub(crate) fn mode_not_configured(subject: &str) -> Self {
        Self::new(40409, format!("Subject '{subject}' does not have subject-level mode configured"))
    }

    pub(crate) fn incompatible(subject: &str, differences: Vec<String>) -> Self {
        let details = differences.join(", ");
        let message =
            format!("Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{details}]");
        Self { code: 409, message, differences }
    }

    pub(crate) fn invalid_schema(why: impl std::fmt::Display) -> Self {
        Self::new(42201, format!("Invalid schema: {why}"))
    }

    pub(crate) fn invalid_version(version: &str) -> Self {
        let allowed = "Allowed values are between [1, 2^31-1] and the string \"latest\"";
        Self::new(42202, format!("The specified version '{version}' is not a valid version id. {allowed}"))
    }

    pub(crate) fn invalid_mode() -> Self {
        Self::new(42204, "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, and IMPORT")
    }

    pub(crate) fn not_permitted(why: impl Into<String>) -> Self {
        Self::new(42205, why)
    }

    pub(crate) fn reference_exists(subject: &str, version: u32) -> Self {
        let key = format!("{{magic=1,keytype=SCHEMA,subject={subject},version={version}}}");
        Self::new(42206, format!("One or more references exist to the schema {key}."))
    }

    pub(crate) fn id_does_not_match(held: u32, given: u32) -> Self {
        Self::new(42207, format!("Schema already registered with id {held} instead of input id {given}"))
    }

    pub(crate) fn invalid_subject(subject: &str) -> Self {
        Self::new(42208, format!("The specified subject '{}' is not a valid subject.", subject.escape_debug()))
    }
}

impl From<UnknownLevel> for ApiError {
    fn from(error: UnknownLevel) -> Self {
        Self::new(42203, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_head_of_the_code() {
        for (code, status) in [(40401, 404), (409, 409), (42201, 422), (50003, 500), (401, 401)] {
            assert_eq!(ApiError::new(code, "").status(), status);
        }
    }
}
