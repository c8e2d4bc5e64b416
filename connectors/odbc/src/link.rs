//! The one connection of a system, used by one waiting thread at a time, and by none between looks.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::columns::Columns;
use crate::dialect::Dialect;
use crate::page::Page;
use crate::reading::{Select, Told};
use crate::session::{Session, Settings};

/// A connection is closed when nothing is due for so long: firewalls forget it earlier than we do.
const KEPT: Duration = Duration::from_secs(60);

/// Connects when it must, and keeps the connection while looks follow each other.
pub(crate) struct Link {
    settings: Arc<Settings>,
    session: Option<Session>,
    dialect: Dialect,
}

/// A statement that is being read on a thread of its own. Dropped, it ends with the page that the driver is at.
pub(crate) struct Reading {
    told: mpsc::Receiver<Told>,
    thread: JoinHandle<(Option<Session>, Result<(), SourceError>)>,
    patience: Duration,
}

impl Link {
    /// A link that is not connected yet.
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        Self { settings: Arc::clone(settings), session: None, dialect: settings.expected_dialect() }
    }

    /// What it connects to, for messages.
    pub(crate) fn place(&self) -> String {
        self.settings.place()
    }

    /// Whose SQL is spoken, as far as it is known by now.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Runs a short job on the connection.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Session) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (settings, session) = (Arc::clone(&self.settings), self.session.take());
        let patience = settings.config.patience();
        let thread = tokio::task::spawn_blocking(move || {
            let session = match session {
                Some(session) => session,
                None => Session::open(&settings)?,
            };
            let done = job(&session)?;
            Ok((session, done))
        });
        let (session, done) =
            tokio::time::timeout(patience, thread).await.map_err(|_| self.silent())?.map_err(|error| self.broken(&error))??;
        self.keep(session);
        Ok(done)
    }

    /// Begins to read the SELECT that `select` makes.
    pub(crate) fn read(&mut self, doing: String, select: impl FnOnce(&Session) -> Result<Select, SourceError> + Send + 'static) -> Reading {
        let (settings, session) = (Arc::clone(&self.settings), self.session.take());
        let patience = settings.config.patience();
        // One page waits while the next is fetched: nothing else is read ahead.
        let (out, told) = mpsc::channel(1);
        let thread = tokio::task::spawn_blocking(move || {
            let session = match session.map_or_else(|| Session::open(&settings), Ok) {
                Ok(session) => session,
                Err(error) => return (None, Err(error)),
            };
            let give = |told| match out.blocking_send(told) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_nobody_listens) => ControlFlow::Break(()),
            };
            let read = select(&session).and_then(|select| session.read(&select, &doing, give));
            match read {
                Ok(()) => (Some(session), Ok(())),
                Err(error) => (None, Err(error)),
            }
        });
        Reading { told, thread, patience }
    }

    /// Ends a reading that was read to its end, and takes the connection back.
    pub(crate) async fn finish(&mut self, reading: Reading) -> Result<(), SourceError> {
        drop(reading.told);
        let ended = tokio::time::timeout(reading.patience, reading.thread).await.map_err(|_| self.silent())?;
        let (session, read) = ended.map_err(|error| self.broken(&error))?;
        if let Some(session) = session {
            self.keep(session);
        }
        read
    }

    /// Says that nothing is due before `wait` is over.
    pub(crate) fn rest(&mut self, wait: Duration) {
        if wait >= KEPT {
            self.session = None;
        }
    }

    fn keep(&mut self, session: Session) {
        self.dialect = session.dialect;
        self.session = Some(session).filter(|session| !session.dialect.is_file());
    }

    fn silent(&self) -> SourceError {
        SourceError::new(ErrorKind::Unreachable, format!("waiting for {}", self.settings.place()))
            .because("it has said nothing for longer than query_timeout_s")
            .advise("raise query_timeout_s where statements need longer")
    }

    fn broken(&self, error: &tokio::task::JoinError) -> SourceError {
        let why = if error.is_panic() { "the driver's answer could not be held" } else { "the hub is ending" };
        SourceError::new(ErrorKind::Defect, format!("reading {}", self.settings.place())).because(why)
    }
}

impl Reading {
    /// The columns of the result; `None` where there is an error, which [`Link::finish`] tells.
    pub(crate) async fn columns(&mut self) -> Option<Arc<Columns>> {
        match self.next().await? {
            Told::Columns(columns) => Some(columns),
            Told::Page(_) => None,
        }
    }

    /// The next page; `None` at the end, or at an error, which [`Link::finish`] tells.
    pub(crate) async fn page(&mut self) -> Option<Page> {
        match self.next().await? {
            Told::Page(page) => Some(page),
            Told::Columns(_) => None,
        }
    }

    async fn next(&mut self) -> Option<Told> {
        tokio::time::timeout(self.patience, self.told.recv()).await.ok().flatten()
    }
}
