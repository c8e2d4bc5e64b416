//! The replication protocol: identity, slots, the stream of WAL data and what we answer to it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BufMut;

use super::session::Session;
use super::{Lsn, WireError, inbox::Message};

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's own epoch.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Who the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Unique number that `initdb` drew.
    pub(crate) system_identifier: String,
    /// Rises with every promotion or point-in-time recovery.
    pub(crate) timeline: u32,
}

/// A slot that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreatedSlot {
    /// Where decoding begins: the snapshot shows all before it and nothing after it.
    pub(crate) consistent_point: Lsn,
    /// Snapshot to import, valid while the session makes no further command.
    pub(crate) snapshot: String,
}

/// How to begin the stream.
#[derive(Clone, Debug)]
pub(crate) struct StartOptions<'a> {
    pub(crate) slot: &'a str,
    pub(crate) publication: &'a str,
    pub(crate) from: Lsn,
    /// Values in binary (PostgreSQL 14 and later).
    pub(crate) binary: bool,
    /// Messages of `pg_logical_emit_message` (PostgreSQL 14 and later).
    pub(crate) messages: bool,
}

/// What a walsender sends inside COPY BOTH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReplicationMessage<'a> {
    /// One pgoutput message and the place in the WAL that it comes from.
    Data { at: Lsn, body: &'a [u8] },
    /// Everything before `end` has been sent; `reply` asks for a status at once.
    Keepalive { end: Lsn, reply: bool },
}

/// What we tell the walsender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandbyStatus {
    /// Received so far.
    pub(crate) received: Lsn,
    /// Durable: the slot may forget everything before it.
    pub(crate) durable: Lsn,
    /// Whether the server should answer with a keepalive at once.
    pub(crate) reply: bool,
}

/// Reads the payload of a COPY data message of a walsender.
pub(crate) fn parse_replication(payload: &[u8]) -> Result<ReplicationMessage<'_>, WireError> {
    let broken = || WireError::Protocol("a broken replication message".into());
    let number = |bytes: &[u8]| bytes.first_chunk::<8>().map(|raw| Lsn(u64::from_be_bytes(*raw))).ok_or_else(broken);
    match payload.split_first().ok_or_else(broken)? {
        (b'w', rest) => Ok(ReplicationMessage::Data { at: number(rest)?, body: rest.get(24..).ok_or_else(broken)? }),
        (b'k', rest) => {
            let reply = *rest.get(16).ok_or_else(broken)? != 0;
            Ok(ReplicationMessage::Keepalive { end: number(rest)?, reply })
        }
        (tag, _) => Err(WireError::Protocol(format!("an unknown replication message, tag {tag}"))),
    }
}

/// The walsender's commands.
impl Session {
    /// Who the server is.
    ///
    /// # Errors
    /// A broken link or a refused command.
    pub(crate) async fn identify(&mut self) -> Result<Identity, WireError> {
        let row = self.row("IDENTIFY_SYSTEM").await?;
        let odd = || WireError::Protocol("IDENTIFY_SYSTEM without an identity".into());
        Ok(Identity { system_identifier: row.get(0).ok_or_else(odd)?.to_owned(), timeline: row.parse(1).ok_or_else(odd)? })
    }

    /// Makes a logical slot and exports the snapshot that belongs to it. Waits for transactions that are running.
    ///
    /// # Errors
    /// A broken link, no slot left, no right.
    pub(crate) async fn create_slot(&mut self, slot: &str, failover: bool) -> Result<CreatedSlot, WireError> {
        let sql = if failover {
            format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER)", quote(slot))
        } else {
            format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT", quote(slot))
        };
        let row = self.row(&sql).await?;
        let odd = || WireError::Protocol("CREATE_REPLICATION_SLOT without a snapshot".into());
        Ok(CreatedSlot { consistent_point: row.parse(1).ok_or_else(odd)?, snapshot: row.get(2).ok_or_else(odd)?.to_owned() })
    }

    /// Begins the stream of changes. From here on only COPY data pass.
    ///
    /// # Errors
    /// A slot that is missing, in use or past `from`; a broken link.
    pub(crate) async fn start_replication(&mut self, options: &StartOptions<'_>) -> Result<(), WireError> {
        let mut sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}",
            quote(options.slot),
            options.from,
            literal(&quote(options.publication)),
        );
        if options.binary {
            sql.push_str(", binary 'true'");
        }
        if options.messages {
            sql.push_str(", messages 'true'");
        }
        sql.push(')');
        self.send_with(|out| postgres_protocol::message::frontend::query(&sql, out)).await?;
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::CopyBoth => return Ok(()),
                Message::Error(error) => failure = Some(error),
                Message::Ready => {
                    return Err(failure.map_or_else(|| WireError::Protocol("no stream".into()), WireError::Server));
                }
                _ => {}
            }
        }
    }

    /// Tells the walsender how far we are.
    ///
    /// # Errors
    /// A broken link.
    pub(crate) async fn send_status(&mut self, status: StandbyStatus) -> Result<(), WireError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_micros());
        let now = i64::try_from(now).unwrap_or(0) - EPOCH_MICROS;
        self.send_with(|out| {
            out.put_u8(b'd');
            out.put_i32(4 + 34);
            out.put_u8(b'r');
            out.put_u64(status.received.0);
            out.put_u64(status.durable.0);
            out.put_u64(status.durable.0);
            out.put_i64(now);
            out.put_u8(u8::from(status.reply));
            Ok(())
        })
        .await
    }
}

/// An identifier as SQL and the replication grammar take it.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text as an SQL literal (`standard_conforming_strings` is on since 9.1).
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_data_and_keepalives_are_told_apart() {
        let mut data = vec![b'w'];
        data.extend(7_u64.to_be_bytes());
        data.extend(9_u64.to_be_bytes());
        data.extend([0; 8]);
        data.extend(b"body");
        assert!(matches!(parse_replication(&data), Ok(ReplicationMessage::Data { at: Lsn(7), body: b"body" })));
        let mut keepalive = vec![b'k'];
        keepalive.extend(11_u64.to_be_bytes());
        keepalive.extend([0; 8]);
        keepalive.push(1);
        assert!(matches!(parse_replication(&keepalive), Ok(ReplicationMessage::Keepalive { end: Lsn(11), reply: true })));
        assert!(parse_replication(b"k12").is_err());
    }

    #[test]
    fn names_and_texts_with_quotes_stay_one_token() {
        assert_eq!(quote("Hồ \"sơ\""), "\"Hồ \"\"sơ\"\"\"");
        assert_eq!(literal("it's"), "'it''s'");
    }
}
