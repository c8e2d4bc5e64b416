//! Reading rows again by key: many executions of one statement in one round trip, cells in the stream's own format.

use bytes::BufMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::inbox::Message;
use super::session::Session;
use super::{ServerError, WireError};

/// Executions sent before their answers are read: small enough that neither side can block the other on a full socket
/// with keys of usual size, large enough that a round trip is shared.
const AT_ONCE: usize = 64;

/// One statement to run for many keys.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    /// SQL with `$1 …` for the parts of the key.
    pub(crate) sql: &'a str,
    /// Types of the parts.
    pub(crate) key_types: &'a [u32],
    /// Whether keys and results are binary; text otherwise.
    pub(crate) binary: bool,
}

impl Session {
    /// Runs the lookup for each key in order. `found` gets the key's number and the row's cells (the body of a
    /// `DataRow`); it is not called for a key without a row.
    ///
    /// # Errors
    /// The server's error or a broken link.
    pub(crate) async fn look_up(
        &mut self,
        lookup: &Lookup<'_>,
        keys: &[Vec<Vec<u8>>],
        mut found: impl FnMut(usize, &[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let format = i16::from(lookup.binary);
        for (batch, keys) in keys.chunks(AT_ONCE).enumerate() {
            self.send_with(|out| {
                frontend::parse("", lookup.sql, lookup.key_types.iter().copied(), out)?;
                for key in keys {
                    let bound = frontend::bind(
                        "",
                        "",
                        [format],
                        key,
                        |part, out| {
                            out.put_slice(part);
                            Ok(IsNull::No)
                        },
                        [format],
                        out,
                    );
                    bound.map_err(|error| match error {
                        frontend::BindError::Conversion(error) => std::io::Error::other(error),
                        frontend::BindError::Serialization(error) => error,
                    })?;
                    frontend::execute("", 1, out)?;
                }
                frontend::sync(out);
                Ok(())
            })
            .await?;
            self.read_answers(batch * AT_ONCE, &mut found).await?;
        }
        Ok(())
    }

    async fn read_answers(&mut self, first: usize, found: &mut impl FnMut(usize, &[u8]) -> Result<(), WireError>) -> Result<(), WireError> {
        let mut key = first;
        let mut failure: Option<ServerError> = None;
        loop {
            match self.message().await? {
                Message::DataRow(body) => found(key, body)?,
                // Without a row the execution completes; with one it is suspended at its limit of one row.
                Message::CommandComplete | Message::Other(b's') => key += 1,
                Message::Error(error) => failure = Some(error),
                Message::Ready => break,
                _ => {}
            }
        }
        failure.map_or(Ok(()), |error| Err(WireError::Server(error)))
    }
}
