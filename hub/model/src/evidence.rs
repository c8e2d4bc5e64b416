//! Evidence of what was exchanged with a source: digests and circumstances, never the content.

use crate::StreamName;

/// One exchange with a source, for the audit topic of its system: Decree 278/2025 asks that every exchange can be traced. It
/// carries no personal data and no secret: `what` names the endpoint without its query, and the bodies only as SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When the exchange ended, in microseconds since 1970.
    pub at_micros: i64,
    /// The stream it was made for.
    pub stream: StreamName,
    /// Who called: the account or client id that the source knows, or the address of a caller; empty where there is none.
    pub account: String,
    /// What was done, for people: `GET https://lgsp.example/dmdc/1.0/AllCategory`.
    pub what: String,
    /// How it ended, in the protocol's words: `200`, `time-out`.
    pub outcome: String,
    /// SHA-256 of the request (method, address with its query, body), in hexadecimal.
    pub request_sha256: String,
    /// SHA-256 of the answer's body, in hexadecimal; empty where none came.
    pub answer_sha256: String,
    /// Bytes of the answer's body.
    pub answer_bytes: u64,
    /// Where both are kept whole, for as long as the configuration says; empty where they are not.
    pub kept: String,
}
