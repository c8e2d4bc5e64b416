//! The link under a session: TCP, TLS over TCP, or a Unix socket.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// An open link.
pub(crate) enum Transport {
    Tcp(Socket),
    Tls(Box<TlsStream<Socket>>),
    Unix(UnixStream),
}

impl Transport {
    /// Lets bytes pile up unnoticed until the link is used again. Otherwise every segment that arrives wakes a thread of the
    /// runtime, whether anyone wants it or not: in a large transaction once a row, which costs more than decoding it.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.rest(),
            Self::Tls(link) => link.get_mut().0.rest(),
            Self::Unix(_) => Ok(()),
        }
    }
}

/// A TCP stream that can be taken off the runtime's watch; using it puts it back.
pub(crate) enum Socket {
    Watched(TcpStream),
    Resting(std::net::TcpStream),
    /// Between the two, and after a failure to change over.
    Gone,
}

impl Socket {
    fn rest(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Watched(stream) => Self::Resting(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let Self::Resting(_) = self
            && let Self::Resting(stream) = std::mem::replace(self, Self::Gone)
        {
            *self = Self::Watched(TcpStream::from_std(stream)?);
        }
        match self {
            Self::Watched(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        // What piled up is taken directly: the runtime would know of it only after it has polled the system again.
        if let Self::Resting(stream) = socket {
            match stream.read(into.initialize_unfilled()) {
                Ok(read) => {
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match socket.watched() {
            Ok(stream) => stream.poll_read(context, into),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut().watched() {
            Ok(stream) => stream.poll_write(context, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().watched() {
            Ok(stream) => stream.poll_flush(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().watched() {
            Ok(stream) => stream.poll_shutdown(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop at once")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_resting_link_gives_what_piled_up_and_then_waits_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = Transport::Tcp(Socket::Watched(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()));
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4];
        for _ in 0..3 {
            link.rest().unwrap();
            link.rest().unwrap();
            peer.write_all(b"ab").await.unwrap();
            link.read_exact(&mut bytes[..2]).await.unwrap();
            let later = async {
                tokio::task::yield_now().await;
                peer.write_all(b"cd").await.unwrap();
            };
            let (read, ()) = tokio::join!(link.read_exact(&mut bytes[2..]), later);
            read.unwrap();
            assert_eq!(&bytes, b"abcd");
            link.write_all(b"x").await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'x');
        }
    }
}
