//! The listener and its connections. A run accepts; connections outlive it until their requests are answered.

use std::convert::Infallible;
use std::io::ErrorKind as IoKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::{ErrorKind, SourceError};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::door::{Door, Peer};
use crate::figures::Counted;
use crate::tls::{Encryption, common_names};

/// Connections that the system may hold for us before they are accepted.
const BACKLOG: u32 = 1_024;
/// How long a port may still be in use: the run before is just giving it up.
const BIND_WITHIN: Duration = Duration::from_secs(10);
/// What a connection beyond the most is told.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Connections of a connector. When it is dropped, nobody is left who could answer 200 later: each request is answered with what
/// is known, and each connection ends by itself.
#[derive(Default)]
pub(crate) struct Connections {
    tasks: Mutex<JoinSet<()>>,
}

impl Drop for Connections {
    fn drop(&mut self) {
        // Ending them here would cut off the answers to what has just become durable.
        self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).detach_all();
    }
}

impl Connections {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // Those that ended are joined here, so that they do not pile up.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(connection);
    }
}

/// Listens on an address, waiting for one that is just being given up.
///
/// # Errors
/// Why one cannot listen there.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, SourceError> {
    let began = Instant::now();
    loop {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == IoKind::AddrInUse && began.elapsed() < BIND_WITHIN => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(classified(address, error)),
        }
    }
}

/// Listens, or says at once why not.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the run before, on their way out, do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The kind of trouble with an address.
pub(crate) fn classified(address: SocketAddr, error: std::io::Error) -> SourceError {
    let (kind, advice) = match error.kind() {
        IoKind::AddrInUse => (ErrorKind::Unreachable, "another process listens there: end it, or change `listen`"),
        IoKind::AddrNotAvailable => (ErrorKind::BadConfig, "this machine has no such address: use one of its own, or 0.0.0.0"),
        IoKind::PermissionDenied => (ErrorKind::Denied, "ports below 1024 need the right cap_net_bind_service: use a higher one"),
        _ => (ErrorKind::Unreachable, "see whether the address can be used on this machine"),
    };
    SourceError::new(kind, format!("listening on {address}")).because(error).advise(advice)
}

/// What a run serves with.
pub(crate) struct Serving {
    pub(crate) door: Arc<Door>,
    pub(crate) encryption: Option<Arc<Encryption>>,
    pub(crate) connections: Arc<Connections>,
    /// Room for connections.
    pub(crate) most: Arc<Semaphore>,
    pub(crate) head_within: Duration,
    /// Closes when the run ends.
    pub(crate) running: watch::Receiver<()>,
}

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, serving: Serving) -> Infallible {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, or a connection that was gone at once: the listener itself is well.
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&serving.most).try_acquire_owned() else {
            serving.door.figures.answered(429);
            if serving.encryption.is_none() {
                let _gone = stream.try_write(TURNED_AWAY);
            }
            continue;
        };
        let door = Arc::clone(&serving.door);
        let (head_within, running) = (serving.head_within, serving.running.clone());
        let acceptor = serving.encryption.as_ref().map(|encryption| encryption.acceptor(Instant::now()));
        serving.connections.spawn(async move {
            let _ended = connection(stream, address, acceptor, door, (head_within, running, place)).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    door: Arc<Door>,
    (head_within, running, _place): (Duration, watch::Receiver<()>, OwnedSemaphorePermit),
) -> std::io::Result<()> {
    // Answers are small: waiting for more of them to send costs 40 ms.
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else {
        serve(stream, Peer { address, names: None }, &door, head_within, running).await;
        return Ok(());
    };
    let stream = tokio::time::timeout(head_within, acceptor.accept(stream)).await.map_err(|_| IoKind::TimedOut)??;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = shown.map(common_names);
    serve(stream, Peer { address, names }, &door, head_within, running).await;
    Ok(())
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    door: &Door,
    head_within: Duration,
    mut running: watch::Receiver<()>,
) {
    let _open = Counted::new(&door.figures.connections);
    let service = service_fn(|request| async { Ok::<_, Infallible>(door.answer(&peer, request).await) });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head_within).max_buf_size(64 << 10);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _over = running.changed() => {
            // The request that is being answered is answered; no other is taken.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, peer = %peer.address, "a connection broke");
    }
}
