//! Lines of a child's output, taken where they lie in the buffer, up to a longest one.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are asked for at once.
const CHUNK: usize = 256 << 10;

/// A line that is longer than may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Output that is cut into lines. Holds one line and what came with it.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where no end of a line was found.
    searched: usize,
    is_over: bool,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of up to `longest` bytes.
    pub(crate) fn new(reader: R, longest: usize) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, searched: 0, is_over: false, longest }
    }

    /// The next line that has come whole; the last one needs no end. `None`: more must be read.
    pub(crate) fn line(&mut self) -> Option<Result<&[u8], TooLong>> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n').map(|place| self.searched + place);
        let (end, next) = match found {
            Some(end) => (end, end + 1),
            None if self.buffer.len() - self.start > self.longest => return Some(Err(TooLong)),
            None if self.is_over && self.start < self.buffer.len() => (self.buffer.len(), self.buffer.len()),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        let line = self.start..end;
        (self.start, self.searched) = (next, next);
        if line.len() > self.longest {
            return Some(Err(TooLong));
        }
        Some(Ok(self.buffer[line].trim_ascii()))
    }

    /// Whether everything was taken and nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over && self.start == self.buffer.len()
    }

    /// Leaves out what was read so far, the beginning of a line that is too long.
    pub(crate) fn skip(&mut self) {
        self.start = self.buffer.len();
        self.searched = self.buffer.len();
    }

    /// Reads on. False at the end. May be given up and called again.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        if self.is_over {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.reserve(CHUNK);
        if self.reader.read_buf(&mut self.buffer).await? == 0 {
            self.is_over = true;
        }
        Ok(!self.is_over || !self.buffer.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    async fn all(text: &str, longest: usize) -> Vec<Result<String, TooLong>> {
        let mut lines = Lines::new(text.as_bytes(), longest);
        let mut found = Vec::new();
        loop {
            while let Some(line) = lines.line() {
                let line = line.map(|line| String::from_utf8(line.to_vec()).unwrap());
                let is_over = line.is_err();
                found.push(line);
                if is_over {
                    return found;
                }
            }
            if !lines.fill().await.unwrap() {
                return found;
            }
        }
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_is_a_line() {
        assert_eq!(all("a\r\n\nbc\nd", 10).await, ["a", "", "bc", "d"].map(|line| Ok(line.to_owned())));
        assert_eq!(all("", 10).await, []);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_told_and_not_held() {
        assert_eq!(all("abc\nabcdef\nx\n", 5).await, [Ok("abc".to_owned()), Err(TooLong)]);
        assert_eq!(all("abcdef", 5).await, [Err(TooLong)]);
    }
}
