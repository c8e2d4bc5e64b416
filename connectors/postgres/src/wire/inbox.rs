//! The read buffer: messages are cut out of it in place.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::{ServerError, WireError};

/// What the buffer is read into when nothing larger is under way, bytes.
const USUAL: usize = 256 << 10;
/// A buffer that grew for a huge value beyond this is given back, bytes.
const KEPT: usize = 2 << 20;
/// The server's own limit of a message, with room for its header, bytes.
const LONGEST: usize = (1 << 30) + 1024;

/// One message of the server, its body borrowed from the buffer.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    CopyData(&'a [u8]),
    DataRow(&'a [u8]),
    Authentication(&'a [u8]),
    CopyDone,
    CopyOut,
    CopyBoth,
    CommandComplete,
    Ready,
    Error(ServerError),
    /// Parse, bind or close complete, row descriptions: nothing that we need.
    Other(u8),
}

/// Bytes received and not yet parsed.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; USUAL], start: 0, end: 0 }
    }

    /// Reads once, as much as fits. Ready with the number of bytes; an end of the stream is an error.
    pub(crate) fn poll_fill(&mut self, link: Pin<&mut impl AsyncRead>, context: &mut Context<'_>) -> Poll<Result<usize, WireError>> {
        self.make_room();
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(link.poll_read(context, &mut free)).map_err(WireError::Broken)?;
        let read = free.filled().len();
        if read == 0 {
            return Poll::Ready(Err(WireError::Closed));
        }
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// The next whole message, if there is one. Notices and parameter reports are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Message<'_>>, WireError> {
        let Some((tag, length)) = self.whole()? else { return Ok(None) };
        let from = self.start + 5;
        let to = self.start + 1 + length;
        self.start = to;
        Ok(Some(classify(tag, &self.buffer[from..to])))
    }

    /// Whether [`Inbox::next`] would give a message.
    pub(crate) fn has_message(&mut self) -> Result<bool, WireError> {
        Ok(self.whole()?.is_some())
    }

    /// Tag and length of the next whole message, after what concerns nobody is dropped.
    fn whole(&mut self) -> Result<Option<(u8, usize)>, WireError> {
        while let Some((tag, length)) = self.header() {
            if !(4..=LONGEST).contains(&length) {
                return Err(WireError::Protocol(format!("a message of {length} bytes with tag {tag}")));
            }
            if self.end - self.start < length + 1 {
                break;
            }
            if !matches!(tag, b'N' | b'S' | b'K' | b'A') {
                return Ok(Some((tag, length)));
            }
            self.start += length + 1;
        }
        Ok(None)
    }

    fn header(&self) -> Option<(u8, usize)> {
        let held = &self.buffer[self.start..self.end];
        let (tag, rest) = held.split_first()?;
        let length: [u8; 4] = rest.get(..4)?.try_into().ok()?;
        Some((*tag, u32::from_be_bytes(length) as usize))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > KEPT {
                self.buffer = vec![0; USUAL];
            }
            return;
        }
        let wanted = self.header().map_or(5, |(_, length)| length.min(LONGEST) + 1);
        let fits_behind = self.buffer.len() - self.start >= wanted;
        if fits_behind && self.buffer.len() - self.end >= USUAL / 4 {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            // Doubling keeps the copying linear; the declared length is not trusted with memory before bytes arrive.
            let next = (self.buffer.len() * 2).min(wanted.next_power_of_two());
            if self.end + USUAL / 4 > self.buffer.len() {
                self.buffer.resize(next, 0);
            }
        }
    }
}

fn classify(tag: u8, body: &[u8]) -> Message<'_> {
    match tag {
        b'd' => Message::CopyData(body),
        b'D' => Message::DataRow(body),
        b'R' => Message::Authentication(body),
        b'c' => Message::CopyDone,
        b'H' => Message::CopyOut,
        b'W' => Message::CopyBoth,
        b'C' => Message::CommandComplete,
        b'Z' => Message::Ready,
        b'E' => Message::Error(ServerError::parse(body)),
        other => Message::Other(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing test should stop at once")]

    use std::future::poll_fn;

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    #[tokio::test]
    async fn messages_of_any_size_come_out_whole_and_in_order() {
        let sizes = [0_usize, 1, 100, 70_000, 3 << 20, 5, 300_000, 7];
        let mut stream = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            stream.extend(frame(b'N', b"a notice"));
            stream.extend(frame(b'd', &vec![u8::try_from(index).unwrap(); *size]));
        }
        let mut link: &[u8] = &stream;
        let mut inbox = Inbox::new();
        let mut seen = Vec::new();
        while seen.len() < sizes.len() {
            match inbox.next().unwrap() {
                Some(Message::CopyData(body)) => {
                    assert!(body.iter().all(|byte| usize::from(*byte) == seen.len()));
                    seen.push(body.len());
                }
                Some(other) => panic!("unexpected {other:?}"),
                None => {
                    poll_fn(|context| inbox.poll_fill(Pin::new(&mut link), context)).await.unwrap();
                }
            }
        }
        assert_eq!(seen, sizes);
        let end = poll_fn(|context| inbox.poll_fill(Pin::new(&mut link), context)).await;
        assert!(matches!(end, Err(WireError::Closed)));
    }

    #[test]
    fn a_message_length_beyond_the_servers_limit_is_refused() {
        let mut inbox = Inbox::new();
        inbox.buffer[..5].copy_from_slice(&[b'd', 0xFF, 0xFF, 0xFF, 0xFF]);
        inbox.end = 5;
        assert!(matches!(inbox.next(), Err(WireError::Protocol(_))));
    }
}
