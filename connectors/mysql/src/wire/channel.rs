//! Packets over a socket, read in place: no copy and no allocation for one that fits the buffer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::WireError;

/// What a read asks for at least.
const READ: usize = 128 << 10;
/// A buffer that grew for one large packet is given back beyond this.
const KEEP: usize = 4 << 20;
/// The longest packet; one that is as long goes on in the next.
const WHOLE: usize = 0xff_ffff;

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While TLS is being agreed upon.
    Nothing,
}

/// A place of a packet's payload, good until the next [`Channel::fill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    joined: bool,
}

impl Packet {
    /// Whether the places of both are counted in the same bytes, which no packet between them has replaced.
    pub(crate) fn shares_ground(self, other: Self) -> bool {
        !self.joined && !other.joined
    }
}

/// A connection that packets come and go over.
pub(crate) struct Channel {
    io: Io,
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
    sequence: u8,
    /// Parts of a packet beyond 16 MiB.
    joined: Vec<u8>,
    is_joining: bool,
    /// How long the server may say nothing.
    pub(crate) patience: Duration,
}

impl Channel {
    pub(crate) fn new(io: TcpStream, patience: Duration) -> Self {
        Self { io: Io::Plain(io), buffer: vec![0; READ], head: 0, tail: 0, sequence: 0, joined: Vec::new(), is_joining: false, patience }
    }

    /// Goes over to TLS.
    pub(crate) async fn encrypt(&mut self, config: Arc<rustls::ClientConfig>, host: &str) -> Result<(), WireError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| WireError::Tls(io::Error::other(error)))?;
        let Io::Plain(socket) = std::mem::replace(&mut self.io, Io::Nothing) else {
            return Err(WireError::Protocol("TLS twice"));
        };
        let stream = TlsConnector::from(config).connect(name, socket).await.map_err(WireError::Tls)?;
        self.io = Io::Tls(Box::new(stream));
        Ok(())
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }

    /// A new command begins.
    pub(crate) fn begin(&mut self) {
        self.sequence = 0;
    }

    /// Sends one payload.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut framed = Vec::with_capacity(payload.len() + 8);
        let mut rest = payload;
        loop {
            let (part, later) = rest.split_at(rest.len().min(WHOLE));
            let length = u32::try_from(part.len()).unwrap_or(0).to_le_bytes();
            framed.extend_from_slice(&length[..3]);
            framed.push(self.sequence);
            framed.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            rest = later;
            if part.len() < WHOLE {
                break;
            }
        }
        match &mut self.io {
            Io::Plain(socket) => socket.write_all(&framed).await?,
            Io::Tls(stream) => {
                stream.write_all(&framed).await?;
                stream.flush().await?;
            }
            Io::Nothing => return Err(WireError::Closed),
        }
        Ok(())
    }

    /// The next packet, where it is here as a whole.
    pub(crate) fn buffered(&mut self) -> Option<Packet> {
        loop {
            let here = self.buffer.get(self.head..self.tail)?;
            let header = here.get(..4)?;
            let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
            if here.len() < 4 + length {
                return None;
            }
            self.sequence = header[3].wrapping_add(1);
            let from = self.head + 4;
            let to = from + length;
            self.head = to;
            if length < WHOLE && !self.is_joining {
                return Some(Packet { from, to, joined: false });
            }
            if !self.is_joining {
                self.joined.clear();
            }
            self.joined.extend_from_slice(&self.buffer[from..to]);
            self.is_joining = length == WHOLE;
            if !self.is_joining {
                return Some(Packet { from: 0, to: self.joined.len(), joined: true });
            }
        }
    }

    /// The bytes that a packet's places are counted in.
    pub(crate) fn ground(&self, packet: Packet) -> &[u8] {
        if packet.joined { &self.joined } else { &self.buffer }
    }

    /// A packet's payload.
    pub(crate) fn bytes(&self, packet: Packet) -> &[u8] {
        self.ground(packet).get(packet.from..packet.to).unwrap_or_default()
    }

    /// Waits for more bytes. Nothing is lost where it is cancelled; every [`Packet`] is void afterwards.
    pub(crate) async fn fill(&mut self) -> Result<(), WireError> {
        self.make_room();
        let spare = self.buffer.get_mut(self.tail..).unwrap_or_default();
        let reading = async {
            match &mut self.io {
                Io::Plain(socket) => socket.read(spare).await,
                Io::Tls(stream) => stream.read(spare).await,
                Io::Nothing => Ok(0),
            }
        };
        let read = tokio::time::timeout(self.patience, reading).await.map_err(|_late| WireError::Silent(self.patience.as_secs()))??;
        if read == 0 {
            return Err(WireError::Closed);
        }
        self.tail += read;
        Ok(())
    }

    /// Takes what the socket has now; says whether there was anything.
    pub(crate) async fn fill_now(&mut self) -> Result<bool, WireError> {
        if self.is_encrypted() {
            // Looked at once: what TLS has read of a record stays with it.
            return tokio::time::timeout(Duration::ZERO, self.fill()).await.map_or(Ok(false), |filled| filled.map(|()| true));
        }
        self.make_room();
        let Io::Plain(socket) = &self.io else { return Ok(false) };
        match socket.try_read(self.buffer.get_mut(self.tail..).unwrap_or_default()) {
            Ok(0) => Err(WireError::Closed),
            Ok(read) => {
                self.tail += read;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next packet.
    pub(crate) async fn packet(&mut self) -> Result<Packet, WireError> {
        loop {
            if let Some(packet) = self.buffered() {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    fn make_room(&mut self) {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        let waiting = self.buffer.get(..self.tail).filter(|here| here.len() >= 4);
        let length = waiting.map_or(0, |here| usize::from(here[0]) | usize::from(here[1]) << 8 | usize::from(here[2]) << 16);
        let wanted = (length + 4).max(self.tail + READ / 2);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted.next_power_of_two(), 0);
        } else if self.buffer.len() > KEEP && wanted <= READ * 2 {
            self.buffer.truncate(READ * 2);
            self.buffer.shrink_to_fit();
        }
    }
}
