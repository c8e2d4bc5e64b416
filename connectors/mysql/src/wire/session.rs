//! One logged-in connection: statements, prepared reads, and the log.

use std::time::Duration;

use tokio::net::TcpStream;

use super::bytes::Bytes;
use super::channel::{Channel, Packet};
use super::login::login;
use super::{Address, ServerError, WireError};

const QUERY: u8 = 3;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const CLOSE_STATEMENT: u8 = 0x19;
const QUIT: u8 = 1;
const BINLOG_DUMP: u8 = 0x12;
const BINLOG_DUMP_GTID: u8 = 0x1e;

/// One row as text.
pub(crate) type Row = Vec<Option<String>>;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnswerColumn {
    pub(crate) name: String,
    /// The protocol's number of its type.
    pub(crate) kind: u8,
}

/// What comes next of an answer's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A row in the binary form.
    Row(Packet),
    /// Nothing more is buffered.
    Dry,
    /// That was all.
    End,
}

/// A logged-in connection.
pub(crate) struct Session {
    pub(crate) channel: Channel,
    /// The prepared statement whose rows are being read.
    statement: Option<u32>,
}

impl Session {
    pub(crate) async fn connect(address: &Address) -> Result<Self, WireError> {
        let opening = async {
            let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
            socket.set_nodelay(true)?;
            let mut channel = Channel::new(socket, address.patience);
            login(&mut channel, address).await?;
            Ok(Self { channel, statement: None })
        };
        let late = |_| WireError::Silent(address.connect.as_secs());
        tokio::time::timeout(address.connect, opening).await.map_err(late)?
    }

    async fn command(&mut self, kind: u8, body: &[u8]) -> Result<(), WireError> {
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(kind);
        payload.extend_from_slice(body);
        self.channel.begin();
        self.channel.send(&payload).await
    }

    /// The next packet that is no error.
    async fn answer(&mut self) -> Result<Packet, WireError> {
        let packet = self.channel.packet().await?;
        match self.channel.bytes(packet) {
            [0xff, rest @ ..] => Err(WireError::Server(ServerError::parse(rest))),
            _ => Ok(packet),
        }
    }

    /// Runs a statement; its rows as text, none where it gives none.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, WireError> {
        self.command(QUERY, sql.as_bytes()).await?;
        let packet = self.answer().await?;
        let first = self.channel.bytes(packet);
        if first.first() == Some(&0) {
            return Ok(Vec::new());
        }
        let columns = Bytes::new(first).length()?;
        for _ in 0..columns {
            self.answer().await?;
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.answer().await?;
            let bytes = self.channel.bytes(packet);
            if is_end(bytes) {
                return Ok(rows);
            }
            let mut bytes = Bytes::new(bytes);
            let mut row = Vec::with_capacity(columns);
            for _ in 0..columns {
                row.push(bytes.text()?.map(|text| String::from_utf8_lossy(text).into_owned()));
            }
            rows.push(row);
        }
    }

    /// The first row of a statement.
    pub(crate) async fn one(&mut self, sql: &str) -> Result<Option<Row>, WireError> {
        Ok(self.query(sql).await?.into_iter().next())
    }

    /// Prepares a statement and begins to read its rows in the binary form.
    pub(crate) async fn read(&mut self, sql: &str) -> Result<Vec<AnswerColumn>, WireError> {
        self.command(PREPARE, sql.as_bytes()).await?;
        let packet = self.answer().await?;
        let mut bytes = Bytes::new(self.channel.bytes(packet));
        bytes.take(1)?;
        let statement = bytes.u32()?;
        let columns = usize::from(bytes.u16()?);
        for _ in 0..columns {
            self.answer().await?;
        }
        let mut body = statement.to_le_bytes().to_vec();
        // No cursor, once.
        body.extend_from_slice(&[0, 1, 0, 0, 0]);
        self.command(EXECUTE, &body).await?;
        let packet = self.answer().await?;
        let count = Bytes::new(self.channel.bytes(packet)).length()?;
        let mut described = Vec::with_capacity(count);
        for _ in 0..count {
            let packet = self.answer().await?;
            described.push(column(self.channel.bytes(packet))?);
        }
        self.statement = Some(statement);
        Ok(described)
    }

    /// The next row that is here already.
    pub(crate) fn step(&mut self) -> Result<Step, WireError> {
        let Some(packet) = self.channel.buffered() else { return Ok(Step::Dry) };
        match self.channel.bytes(packet) {
            [0xff, rest @ ..] => Err(WireError::Server(ServerError::parse(rest))),
            bytes if is_end(bytes) => Ok(Step::End),
            _ => Ok(Step::Row(packet)),
        }
    }

    /// Forgets the prepared statement whose rows were read to their end.
    pub(crate) async fn finish(&mut self) -> Result<(), WireError> {
        match self.statement.take() {
            Some(statement) => self.command(CLOSE_STATEMENT, &statement.to_le_bytes()).await,
            None => Ok(()),
        }
    }

    /// Asks for the log from a place in a file on; MariaDB takes its GTID from the session where the file is empty.
    pub(crate) async fn dump(&mut self, server_id: u32, file: &str, offset: u32) -> Result<(), WireError> {
        let mut body = offset.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        self.command(BINLOG_DUMP, &body).await
    }

    /// Looks whether the log would be given; the connection is of no other use then.
    pub(crate) async fn try_dump(&mut self, server_id: u32, file: &str, offset: u64) -> Result<(), WireError> {
        self.query("SET @master_binlog_checksum = @@GLOBAL.binlog_checksum, @source_binlog_checksum = @@GLOBAL.binlog_checksum, @mariadb_slave_capability = 4").await?;
        self.dump(server_id, file, u32::try_from(offset).unwrap_or(4)).await?;
        self.answer().await.map(drop)
    }

    /// Asks MySQL for everything that is not in a set of GTIDs, in its binary form.
    pub(crate) async fn dump_gtid(&mut self, server_id: u32, set: &[u8]) -> Result<(), WireError> {
        let mut body = vec![0, 0];
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&4u64.to_le_bytes());
        body.extend_from_slice(&u32::try_from(set.len()).unwrap_or(0).to_le_bytes());
        body.extend_from_slice(set);
        self.command(BINLOG_DUMP_GTID, &body).await
    }

    /// Says good-bye; nobody waits for an answer.
    pub(crate) async fn close(mut self) {
        // Ignored: a server that is gone needs no good-bye.
        let _gone = tokio::time::timeout(Duration::from_secs(1), self.command(QUIT, &[])).await;
    }
}

/// Whether a packet ends an answer's rows: an OK with the head of the former EOF.
fn is_end(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0xfe) && bytes.len() < 0xff_ffff
}

fn column(bytes: &[u8]) -> Result<AnswerColumn, WireError> {
    let mut bytes = Bytes::new(bytes);
    for _ in 0..4 {
        bytes.text()?;
    }
    let name = String::from_utf8_lossy(bytes.text()?.unwrap_or_default()).into_owned();
    bytes.text()?;
    bytes.take(7)?;
    Ok(AnswerColumn { name, kind: bytes.u8()? })
}
