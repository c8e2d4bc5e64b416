//! Rows into a table by `COPY … FROM STDIN`, in PostgreSQL's text format.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::SinkExt as _;
use indicatif::ProgressBar;
use tokio_postgres::{Client, CopyInSink};

use crate::error::{Doing as _, ProvinceError};
use crate::rows::SourceRow;

/// Bytes sent at once.
const CHUNK: usize = 256 * 1024;

/// Copies `rows` into their table and returns their number and those that are flawed: (key, reason, column).
pub(crate) async fn copy<R: SourceRow>(client: &Client, rows: impl Iterator<Item = R>, bar: &ProgressBar) -> Result<Copied, ProvinceError> {
    let columns: Vec<&str> = R::COLUMNS.iter().map(|(name, _)| *name).collect();
    let statement = format!("COPY {} ({}) FROM STDIN", R::TABLE, columns.join(", "));
    let doing = format!("copying rows into {}", R::TABLE);
    let sink: CopyInSink<Bytes> = client.copy_in(&statement).await.doing(&doing)?;
    let mut sink = pin!(sink);
    let mut buffer = BytesMut::with_capacity(CHUNK + 8_192);
    let mut copied = Copied::default();
    for row in rows {
        write_row(&row.values(), &mut buffer);
        copied.rows += 1;
        copied.note(&row);
        if buffer.len() >= CHUNK {
            sink.send(buffer.split().freeze()).await.doing(&doing)?;
            bar.inc(copied.take_unseen());
        }
    }
    sink.send(buffer.freeze()).await.doing(&doing)?;
    sink.finish().await.doing(&doing)?;
    bar.inc(copied.take_unseen());
    Ok(copied)
}

/// What was copied.
#[derive(Default)]
pub(crate) struct Copied {
    /// Rows.
    pub(crate) rows: u64,
    /// Flawed rows: key, reason code, source column.
    pub(crate) flawed: Vec<(String, &'static str, &'static str)>,
    shown: u64,
}

impl Copied {
    fn note(&mut self, row: &impl SourceRow) {
        if let Some(flaw) = row.flaw() {
            self.flawed.push((row.key(), flaw.fault.reason(), flaw.column));
        }
    }

    /// Rows that the progress bar has not been told of.
    fn take_unseen(&mut self) -> u64 {
        let unseen = self.rows - self.shown;
        self.shown = self.rows;
        unseen
    }
}

fn write_row(values: &[Option<String>], buffer: &mut BytesMut) {
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            buffer.put_u8(b'\t');
        }
        match value {
            None => buffer.put_slice(b"\\N"),
            Some(text) => text.bytes().for_each(|byte| match byte {
                b'\t' => buffer.put_slice(b"\\t"),
                b'\n' => buffer.put_slice(b"\\n"),
                b'\r' => buffer.put_slice(b"\\r"),
                b'\\' => buffer.put_slice(b"\\\\"),
                other => buffer.put_u8(other),
            }),
        }
    }
    buffer.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::write_row;

    #[test]
    fn what_copy_would_misread_is_escaped() {
        let mut buffer = BytesMut::new();
        write_row(&[Some("a\tb\\c\nd".to_owned()), None, Some(String::new())], &mut buffer);
        assert_eq!(&buffer[..], b"a\\tb\\\\c\\nd\t\\N\t\n");
    }
}
