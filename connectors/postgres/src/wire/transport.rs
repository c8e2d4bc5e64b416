//! The link under a session: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// An open link.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(link) => Pin::new(link).poll_read(context, into),
            Self::Tls(link) => Pin::new(link.as_mut()).poll_read(context, into),
            Self::Unix(link) => Pin::new(link).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(link) => Pin::new(link).poll_write(context, bytes),
            Self::Tls(link) => Pin::new(link.as_mut()).poll_write(context, bytes),
            Self::Unix(link) => Pin::new(link).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(link) => Pin::new(link).poll_flush(context),
            Self::Tls(link) => Pin::new(link.as_mut()).poll_flush(context),
            Self::Unix(link) => Pin::new(link).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(link) => Pin::new(link).poll_shutdown(context),
            Self::Tls(link) => Pin::new(link.as_mut()).poll_shutdown(context),
            Self::Unix(link) => Pin::new(link).poll_shutdown(context),
        }
    }
}
