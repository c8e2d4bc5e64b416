//! Follows the log: from the server's bytes to deliveries.

mod link;
mod position;
mod state;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{BatchLimits, Delivery, Ended, ErrorKind, Outlet, SourceError};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

pub(crate) use position::{LOG_PARTITION, LogPosition};

use crate::binlog::TableMap;
use crate::catalog::{self, parts};
use crate::charset::Charsets;
use crate::decode::Rules;
use crate::kind::Layout;
use crate::server::{LogPlace, Server};
use crate::snapshot::{Land, SNAPSHOT_PREFIX, Stance, Territory};
use crate::wire::{Session, WireError};
use link::{Link, Start};
use state::{State, Taken, Trouble};
use stream::{Stream, layout_in_log};

/// Beginning of the names of the checkpoint's partitions that hold a [`Layout`]; the stream's name follows.
pub(crate) const LAYOUT_PREFIX: &str = "layout/";

/// A quiet system is moved on by a checkpoint of its own at most this often.
const IDLE_ADVANCE: Duration = Duration::from_secs(10);
/// A transaction of which this many changes wait is a large one: reading may rest so that more comes at once.
const MANY: usize = 512;

/// What following needs.
pub(crate) struct Following {
    pub(crate) server: Server,
    pub(crate) reader: u32,
    pub(crate) heartbeat: Duration,
    pub(crate) limits: BatchLimits,
    pub(crate) rules: Rules,
    pub(crate) before_images: bool,
    /// The streams with their layouts as the log has them at the position.
    pub(crate) streams: Vec<(StreamName, Layout)>,
    pub(crate) position: LogPosition,
    pub(crate) land: Arc<Land>,
    pub(crate) outlet: Outlet,
}

/// A place to begin that was looked up.
pub(crate) struct Located(Start);

impl Located {
    /// A position that was just asked of the server itself.
    pub(crate) fn at(position: &LogPosition) -> Self {
        Self(Start::Place(LogPlace { file: position.file.clone(), offset: position.offset }))
    }
}

/// Finds where to go on; the position is changed where another server has taken over.
///
/// # Errors
/// The server no longer has what comes next.
pub(crate) async fn locate(server: &Server, session: &mut Session, position: &mut LogPosition) -> Result<Located, SourceError> {
    link::locate(server, session, position).await.map(Located)
}

/// Follows until the outlet is shut.
///
/// # Errors
/// Why the log cannot be followed further, classified.
pub(crate) async fn follow(setup: Following, start: Located) -> Result<(), SourceError> {
    let link = Link::open(&setup.server, setup.reader, setup.heartbeat, &start.0).await?;
    // An empty delivery says that changes are followed now.
    if setup.outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await.is_err() {
        return Ok(());
    }
    match Follower::new(setup, link).turns().await {
        Err(Ended::Failed(error)) => Err(error),
        Err(Ended::Shut) | Ok(()) => Ok(()),
    }
}

struct Follower {
    server: Server,
    link: Link,
    /// A session for questions about tables, once there was one.
    asking: Option<Session>,
    rules: Rules,
    limits: BatchLimits,
    land: Arc<Land>,
    outlet: Outlet,
    state: State,
    /// Layouts that no checkpoint knows yet.
    learned: Vec<usize>,
    delivered: LogPosition,
    last_delivery: Instant,
    last_advance: Instant,
}

impl Follower {
    fn new(setup: Following, link: Link) -> Self {
        let gtids = setup.server.gtids(&setup.position.gtid);
        let stream = |(name, layout): &(StreamName, Layout)| {
            Some(Stream::new(name.clone(), parts(name)?, layout.clone(), setup.rules.clone(), setup.before_images))
        };
        let streams = setup.streams.iter().filter_map(stream).collect();
        let now = Instant::now();
        let tail = link.tail;
        Self {
            state: State::new(streams, Arc::clone(&setup.land), setup.limits, setup.position.clone(), gtids, tail),
            server: setup.server,
            link,
            asking: None,
            rules: setup.rules,
            limits: setup.limits,
            land: setup.land,
            outlet: setup.outlet,
            learned: Vec::new(),
            delivered: setup.position,
            last_delivery: now.checked_sub(setup.limits.age).unwrap_or(now),
            last_advance: now,
        }
    }

    async fn turns(&mut self) -> Result<(), Ended> {
        loop {
            self.take_buffered().await?;
            if self.link.session.channel.fill_now().await.map_err(|error| self.failed(error))? {
                continue;
            }
            // The socket has run dry: what is complete goes out at once.
            if self.delivery_due().is_some_and(|due| due <= Instant::now()) {
                self.flush().await?;
            }
            self.advance_idle().await?;
            self.wait().await?;
        }
    }

    fn failed(&self, error: WireError) -> Ended {
        Ended::Failed(Link::failed(error, &self.delivered))
    }

    /// Takes every event that is already here.
    async fn take_buffered(&mut self) -> Result<(), Ended> {
        while let Some(packet) = self.link.session.channel.buffered() {
            loop {
                let bytes = self.link.session.channel.bytes(packet);
                let taken = match bytes {
                    [0, event @ ..] => self.state.take_raw(event),
                    [0xff, rest @ ..] => Err(Trouble::Wire(WireError::Server(crate::wire::ServerError::parse(rest)))),
                    _ => Err(Trouble::Wire(WireError::Closed)),
                };
                match taken {
                    Ok(Taken::Done) => break,
                    Ok(Taken::Full) => self.flush().await?,
                    Ok(Taken::Wait(index)) => self.wait_for_chunk(index).await?,
                    Ok(Taken::Layout(index, map)) => self.learn(index, *map).await?,
                    Ok(Taken::Reread(index)) => return Err(self.reread(index).await),
                    Err(trouble) => {
                        // What came before is whole, and is told.
                        self.flush().await?;
                        return Err(match trouble {
                            Trouble::Wire(error) => self.failed(error),
                            Trouble::Source(error) => Ended::Failed(error),
                        });
                    }
                }
            }
            if self.state.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// When the open batches must go out; `None` while there is nothing whole to send.
    fn delivery_due(&self) -> Option<Instant> {
        let whole = self.state.tally.has_commit || !self.state.is_within();
        // One delivery has its price; a busy source's commits share one, a quiet source's single change waits for nothing.
        (self.state.tally.changes > 0 && whole).then(|| self.last_delivery + self.limits.age / 2)
    }

    /// Waits for bytes or the clock.
    async fn wait(&mut self) -> Result<(), Ended> {
        let in_the_midst = self.state.is_within() && self.state.tally.changes >= MANY;
        // Where nothing can be delivered before a moment anyway, what comes until then is read at once.
        let rest = self.delivery_due().or_else(|| in_the_midst.then(|| Instant::now() + Duration::from_millis(1)));
        if let Some(until) = rest {
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.outlet.shut() => return Err(Ended::Shut),
            }
            return Ok(());
        }
        let idle = self.last_advance + IDLE_ADVANCE;
        let filled = tokio::select! {
            filled = self.link.session.channel.fill() => filled,
            () = sleep_until(idle) => Ok(()),
            () = self.outlet.shut() => return Err(Ended::Shut),
        };
        filled.map_err(|error| self.failed(error))
    }

    /// Closes all open batches and hands them over with the position that is behind them.
    async fn flush(&mut self) -> Result<(), Ended> {
        let batches = self.state.close()?;
        if batches.is_empty() {
            return Ok(());
        }
        let checkpoint = self.checkpoint();
        self.deliver(Delivery::new(batches, checkpoint)).await
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let mut checkpoint = Checkpoint::empty();
        self.delivered = self.state.reached();
        checkpoint.set(LOG_PARTITION, self.delivered.to_json());
        for index in self.learned.drain(..) {
            if let Some(stream) = self.state.streams.get(index) {
                checkpoint.set(format!("{LAYOUT_PREFIX}{}", stream.name), serde_json::to_value(&stream.layout).unwrap_or_default());
            }
        }
        for stream in self.land.pass(self.delivered.latest()) {
            let settled = Territory { complete: true, spans: Vec::new() };
            checkpoint.set(format!("{SNAPSHOT_PREFIX}{stream}"), settled.to_json());
        }
        checkpoint
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Ended> {
        self.outlet.deliver(delivery).await?;
        self.last_delivery = Instant::now();
        self.last_advance = self.last_delivery;
        Ok(())
    }

    /// Moves the checkpoint on where other tables alone change.
    async fn advance_idle(&mut self) -> Result<(), Ended> {
        if self.last_advance.elapsed() < IDLE_ADVANCE {
            return Ok(());
        }
        self.last_advance = Instant::now();
        let is_quiet = self.state.tally.changes == 0 && !self.state.is_within();
        if is_quiet && self.state.reached() != self.delivered {
            let checkpoint = self.checkpoint();
            self.deliver(Delivery::new(Vec::new(), checkpoint)).await?;
        }
        Ok(())
    }

    /// Waits until the chunks of a stream that were read before the present transaction are handed over.
    async fn wait_for_chunk(&mut self, index: usize) -> Result<(), Ended> {
        self.flush().await?;
        let (land, outlet) = (Arc::clone(&self.land), self.outlet.clone());
        loop {
            let landed = land.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if self.state.stance(index) != Stance::Wait {
                return Ok(());
            }
            tokio::select! {
                () = landed => {}
                () = outlet.shut() => return Err(Ended::Shut),
            }
        }
    }

    /// Learns a table's columns as the log has them.
    async fn learn(&mut self, index: usize, map: TableMap) -> Result<(), Ended> {
        let Some(stream) = self.state.streams.get(index) else { return Ok(()) };
        let (name, before) = (stream.name.clone(), stream.layout.clone());
        let mut session = match self.asking.take() {
            Some(session) => session,
            None => self.server.session().await?,
        };
        let now = catalog::table(&mut session, &name).await?.layout;
        let Some(layout) = layout_in_log(&map, &now, &before) else {
            let Some(stream) = self.state.streams.get_mut(index) else { return Ok(()) };
            if stream.forms(&map).is_some() {
                // The table has changed once more since: what is known is still what the log has.
                stream.is_stale = false;
                self.asking = Some(session);
                return Ok(());
            }
            let misfit = stream.misfit();
            if self.state.is_left_out(index) {
                self.state.leave_out(map);
                self.asking = Some(session);
                return Ok(());
            }
            self.flush().await?;
            return Err(misfit.into());
        };
        if layout != before {
            warn!(stream = %name, columns = layout.columns.len(), "the table has other columns from here on");
            let names: Vec<&str> = layout.columns.iter().filter_map(|column| column.kind.charset()).collect();
            let charsets = Charsets::load(&mut session, names).await.map_err(|error| error.into_source("reading character sets"))?;
            self.rules.charsets.merge(charsets);
            self.state.close_one(index)?;
            if let Some(stream) = self.state.streams.get_mut(index) {
                stream.adopt(layout, self.rules.clone());
            }
            self.learned.push(index);
        }
        if let Some(stream) = self.state.streams.get_mut(index) {
            stream.is_stale = false;
        }
        self.asking = Some(session);
        Ok(())
    }

    /// A table was emptied when a part of it was read before and another after: it is told empty, and the next run reads it.
    async fn reread(&mut self, index: usize) -> Ended {
        let batches = match self.state.close() {
            Ok(batches) => batches,
            Err(error) => return error.into(),
        };
        let mut checkpoint = self.checkpoint();
        let Some(stream) = self.state.streams.get(index) else { return Ended::Shut };
        let name = stream.name.clone();
        // No reader may say anything of the stream after this.
        let land = Arc::clone(&self.land);
        let _turn = land.turn.lock().await;
        checkpoint.set(format!("{SNAPSHOT_PREFIX}{name}"), Territory::unread(Vec::new()).to_json());
        if let Err(stop) = self.deliver(Delivery::new(batches, checkpoint)).await {
            return stop;
        }
        Ended::Failed(
            SourceError::new(ErrorKind::Unreachable, "reading the table")
                .because("it was emptied while it was being read")
                .advise("it is read anew by itself")
                .of(name),
        )
    }
}
