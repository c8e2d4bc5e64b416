//! One connection: simple queries, COPY OUT, and the raw messages that the hot paths read in place.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use super::WireError;
use super::inbox::{Inbox, Message};
use super::login::{self, Address, Purpose};
use super::transport::Transport;

/// How long the server may be silent while it works on a query of ours.
const PATIENCE: Duration = Duration::from_secs(900);

/// One row of a simple query, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<String>>);

impl Row {
    /// The value of a column; `None` for null or a column that is not there.
    pub(crate) fn get(&self, column: usize) -> Option<&str> {
        self.0.get(column)?.as_deref()
    }

    /// The value of a column as a number or another parsable type.
    pub(crate) fn parse<T: std::str::FromStr>(&self, column: usize) -> Option<T> {
        self.get(column)?.parse().ok()
    }

    fn read(body: &[u8]) -> Result<Self, WireError> {
        let broken = || WireError::Protocol("a broken row".into());
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
        let mut values = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                values.push(None);
                rest = tail;
                continue;
            };
            let (value, tail) = tail.split_at_checked(length).ok_or_else(broken)?;
            values.push(Some(String::from_utf8_lossy(value).into_owned()));
            rest = tail;
        }
        Ok(Self(values))
    }
}

/// How hard [`Session::fill_now`] looks for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// What the runtime knows of.
    LookOnce,
    /// What the system knows of, too.
    LookTwice,
}

/// One open connection.
pub(crate) struct Session {
    link: Transport,
    inbox: Inbox,
    outbox: BytesMut,
}

impl Session {
    /// Opens a connection and logs in.
    ///
    /// # Errors
    /// [`WireError`] says whether the server was out of reach, refused the login or does not speak TLS.
    pub(crate) async fn connect(address: &Address, purpose: Purpose) -> Result<Self, WireError> {
        login::connect(address, purpose).await
    }

    pub(super) fn over(link: Transport) -> Self {
        Self { link, inbox: Inbox::new(), outbox: BytesMut::new() }
    }

    /// Runs simple SQL (one or more statements) and gives all rows.
    ///
    /// # Errors
    /// The server's error, after which the session can be used further; or a broken link.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, WireError> {
        self.send_with(|out| frontend::query(sql, out)).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::DataRow(body) => rows.push(Row::read(body)?),
                Message::Error(error) => failure = Some(error),
                Message::Ready => break,
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(WireError::Server(error)),
            None => Ok(rows),
        }
    }

    /// Runs SQL whose one row is wanted.
    ///
    /// # Errors
    /// As [`Session::query`], and where no row came.
    pub(crate) async fn row(&mut self, sql: &str) -> Result<Row, WireError> {
        let rows = self.query(sql).await?;
        rows.into_iter().next().ok_or_else(|| WireError::Protocol(format!("no row for {sql}")))
    }

    /// Begins a COPY TO STDOUT; its data are then read by [`Session::buffered`] and [`Session::fill`] up to `Ready`.
    ///
    /// # Errors
    /// The server's error, after which the session can be used further; or a broken link.
    pub(crate) async fn start_copy(&mut self, sql: &str) -> Result<(), WireError> {
        self.send_with(|out| frontend::query(sql, out)).await?;
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::CopyOut => return Ok(()),
                Message::Error(error) => failure = Some(error),
                Message::Ready => {
                    return Err(failure.map_or_else(|| WireError::Protocol("no COPY data".into()), WireError::Server));
                }
                _ => {}
            }
        }
    }

    /// Waits for the next message.
    pub(super) async fn message(&mut self) -> Result<Message<'_>, WireError> {
        // Two lookups: the borrow checker cannot see that a message which is not returned is not borrowed.
        while !self.inbox.has_message()? {
            self.fill().await?;
        }
        self.inbox.next()?.ok_or(WireError::Closed)
    }

    /// The next message that is already here.
    ///
    /// # Errors
    /// A message that breaks the protocol.
    pub(crate) fn buffered(&mut self) -> Result<Option<Message<'_>>, WireError> {
        self.inbox.next()
    }

    /// Waits for more bytes.
    ///
    /// # Errors
    /// A broken link, or a server that is silent for too long.
    pub(crate) async fn fill(&mut self) -> Result<(), WireError> {
        let reading = poll_fn(|context| self.inbox.poll_fill(Pin::new(&mut self.link), context));
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(read) => read.map(|_bytes| ()),
            Err(_elapsed) => Err(WireError::Silent(PATIENCE.as_secs())),
        }
    }

    /// Reads what is there without waiting; false when the socket has run dry.
    ///
    /// # Errors
    /// A broken link.
    pub(crate) async fn fill_now(&mut self, eagerness: Eagerness) -> Result<bool, WireError> {
        if self.try_fill().await? {
            return Ok(true);
        }
        if eagerness == Eagerness::LookOnce {
            return Ok(false);
        }
        // The runtime learns of new bytes only when it polls the system; one turn tells a dry socket from a busy one.
        tokio::task::yield_now().await;
        self.try_fill().await
    }

    /// Lets bytes pile up unnoticed until the session is used again.
    ///
    /// # Errors
    /// A broken link.
    pub(crate) fn rest(&mut self) -> Result<(), WireError> {
        self.link.rest().map_err(WireError::Broken)
    }

    async fn try_fill(&mut self) -> Result<bool, WireError> {
        poll_fn(|context| match self.inbox.poll_fill(Pin::new(&mut self.link), context) {
            Poll::Ready(read) => Poll::Ready(read.map(|_bytes| true)),
            Poll::Pending => Poll::Ready(Ok(false)),
        })
        .await
    }

    /// Writes messages that `encode` appends, and flushes.
    pub(super) async fn send_with(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), WireError> {
        self.outbox.clear();
        encode(&mut self.outbox).map_err(|error| WireError::Protocol(format!("cannot encode a message: {error}")))?;
        self.link.write_all(&self.outbox).await.map_err(WireError::Broken)?;
        self.link.flush().await.map_err(WireError::Broken)
    }

    /// Ends the connection politely. A link that is broken already needs no farewell.
    pub(crate) async fn close(mut self) {
        let said = self.send_with(|out| {
            frontend::terminate(out);
            Ok(())
        });
        if said.await.is_ok() {
            let _broken = self.link.shutdown().await;
        }
    }
}
