//! One run of a child that reads: its messages become rows of streams and states, a slice at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_sdk::model::Checkpoint;
use hub_sdk::{BatchLimits, ErrorKind, SourceError};
use serde_json::Value;

use crate::catalog::{Offered, Wanted, configured};
use crate::child::Running;
use crate::config::Protocol;
use crate::limits::Pulse;
use crate::message::{Descriptor, Line, Message, Record, State, Trouble, read};
use crate::plan::Plan;
use crate::schema::columns;
use crate::source::{Order, Source};
use crate::state::States;
use crate::stream::Stream;

/// Rows that wait are told when no line came for so long: a child that is quiet keeps nothing back.
const QUIET: Duration = Duration::from_millis(50);
/// And no later than this, however slowly lines come.
const LONGEST: Duration = Duration::from_secs(1);

/// The streams that are read together, and the names that their records bear.
pub(crate) struct Streams {
    /// The streams.
    pub(crate) all: Vec<Stream>,
    places: HashMap<String, usize>,
}

impl Streams {
    /// Goes on after a checkpoint.
    pub(crate) fn restore(plans: Vec<Plan>, from: &Checkpoint, remembered: usize) -> Result<Self, (Plan, String)> {
        let mut all = Vec::new();
        for plan in plans {
            all.push(Stream::restore(plan.clone(), from, remembered).map_err(|why| (plan, why))?);
        }
        let mut streams = Self { all, places: HashMap::new() };
        streams.name();
        Ok(streams)
    }

    fn name(&mut self) {
        let mut places = HashMap::new();
        for (place, stream) in self.all.iter().enumerate() {
            places.entry(stream.plan.alias.clone()).or_insert(place);
        }
        // A stream's own name wins over another's alias.
        places.extend(self.all.iter().enumerate().map(|(place, stream)| (stream.plan.name.to_string(), place)));
        self.places = places;
    }

    /// Takes up plans that were made anew, in the same order.
    pub(crate) fn replan(&mut self, plans: Vec<Plan>) {
        self.all.iter_mut().zip(plans).for_each(|(stream, plan)| stream.replan(plan));
        self.name();
    }

    /// Whether state is kept for any of them.
    pub(crate) fn keep_state(&self) -> bool {
        self.all.iter().any(|stream| stream.plan.wanted.mode.keeps_state())
    }

    /// Whether a state is of use: that of a stream which is read whole is not.
    fn keep(&mut self, state: &State) -> bool {
        match state {
            State::Stream { stream, .. } => self.of(stream).is_some_and(|stream| stream.plan.wanted.mode.keeps_state()),
            State::Whole(_) | State::Global(_) => self.keep_state(),
        }
    }

    fn named(&mut self, name: &str) -> Option<&mut Stream> {
        self.places.get(name).map(|place| &mut self.all[*place])
    }

    fn of(&mut self, descriptor: &Descriptor) -> Option<&mut Stream> {
        self.named(&descriptor.full())
    }

    fn waiting(&self) -> (usize, usize) {
        self.all.iter().map(Stream::waiting).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Why reading paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// So many rows wait that they should be told, or the child is quiet.
    Slice,
    /// Nothing more comes.
    Over,
}

/// A child that reads.
pub(crate) struct Run {
    source: Arc<Source>,
    order: Order,
    running: Running,
    began: Instant,
    troubles: Vec<Trouble>,
    /// A line that could not be read, or that cannot be: the run has failed, and why.
    broken: Option<SourceError>,
    /// The same of a last line without an end: a child that is ended tears its line, and why it was ended says more.
    torn: Option<SourceError>,
    too_long: bool,
    /// Whether the source says how far its streams are.
    has_status: bool,
    foreign: u64,
    /// What the child logged last as an error: old sources say nothing else before they end.
    last_words: Option<String>,
    /// The stream of the last record: the next one is mostly of the same.
    last: Option<(String, Option<String>, usize)>,
    /// Whether several streams are read.
    shares: bool,
}

/// How a run ended.
pub(crate) struct Ended {
    /// What it failed for.
    pub(crate) error: Option<SourceError>,
    /// Whether the source says how far its streams are.
    pub(crate) has_status: bool,
}

impl Run {
    /// Starts a child that reads these streams from a state.
    pub(crate) async fn start(
        source: &Arc<Source>,
        offered: &[Offered],
        streams: &mut Streams,
        states: &States,
    ) -> Result<Self, SourceError> {
        let wanted: BTreeMap<String, Wanted> =
            streams.all.iter().map(|stream| (stream.plan.name.to_string(), stream.plan.wanted.clone())).collect();
        let catalog = configured(source.config.protocol, offered, &wanted);
        let order = Order::Read { catalog, state: input(source.config.protocol, streams, states) };
        let running = source.start(&order).await?;
        streams.all.iter_mut().for_each(Stream::begin);
        Ok(Self {
            source: Arc::clone(source),
            order,
            running,
            began: Instant::now(),
            troubles: Vec::new(),
            broken: None,
            torn: None,
            too_long: false,
            has_status: false,
            foreign: 0,
            last_words: None,
            last: None,
            shares: streams.all.len() > 1,
        })
    }

    /// What is known of the child.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.running.pulse)
    }

    /// Reads until rows should be told or nothing more comes. May be given up while it waits.
    pub(crate) async fn step(&mut self, streams: &mut Streams, states: &mut States, limits: BatchLimits) -> Paused {
        let since = Instant::now();
        loop {
            if self.take_lines(streams, states, limits) {
                return Paused::Slice;
            }
            if self.broken.is_some() || self.torn.is_some() || self.too_long {
                return Paused::Over;
            }
            let waits = streams.waiting().0 > 0 || states.has_moved();
            if waits && since.elapsed() > LONGEST.max(limits.age) {
                return Paused::Slice;
            }
            let filled = if waits {
                match tokio::time::timeout(limits.age.max(QUIET), self.running.fill()).await {
                    Ok(filled) => filled,
                    Err(_quiet) => return Paused::Slice,
                }
            } else {
                self.running.fill().await
            };
            match filled {
                Ok(true) => {}
                Ok(false) => return Paused::Over,
                Err(error) => {
                    let doing = self.order.doing(self.source.program());
                    self.broken = Some(SourceError::new(ErrorKind::Unreachable, doing).because(error));
                    return Paused::Over;
                }
            }
        }
    }

    /// Takes the lines that are there. True where so many rows wait that they should be told first.
    fn take_lines(&mut self, streams: &mut Streams, states: &mut States, limits: BatchLimits) -> bool {
        let (mut spare, mut bytes) = (String::new(), streams.waiting());
        loop {
            if bytes.0 >= limits.rows || bytes.1 >= limits.bytes {
                return true;
            }
            let line = match self.running.line() {
                None => return false,
                Some(Err(_too_long)) => {
                    self.too_long = true;
                    return false;
                }
                Some(Ok(line)) => line,
            };
            match read(line, &mut spare) {
                Line::Message(Message::Record(record)) => {
                    let Some(place) = place(&mut self.last, &streams.places, &record) else { continue };
                    let stream = &mut streams.all[place];
                    let before = stream.waiting();
                    stream.take(record.data);
                    let after = stream.waiting();
                    bytes = (bytes.0 + after.0 - before.0, bytes.1 + after.1 - before.1);
                }
                Line::Message(message) => {
                    let heard = Heard {
                        source: &self.source,
                        order: &self.order,
                        troubles: &mut self.troubles,
                        has_status: &mut self.has_status,
                        last_words: &mut self.last_words,
                        broken: &mut self.broken,
                    };
                    heard.take(message, streams, states);
                    if self.broken.is_some() {
                        return false;
                    }
                }
                Line::Foreign if line.is_empty() => {}
                Line::Foreign => {
                    // Without its content: a program that prints its rows prints persons.
                    tracing::debug!(bytes = line.len(), "a line of the child is no message");
                    self.foreign += 1;
                }
                Line::Broken(why) => {
                    let doing = self.order.doing(self.source.program());
                    let error =
                        SourceError::new(ErrorKind::NotPrepared, doing).because(format!("it wrote a message that cannot be read: {why}"));
                    let error = error.advise("look whether something else writes to the program's standard output");
                    let place = if self.running.lines.is_over() { &mut self.torn } else { &mut self.broken };
                    *place = Some(error);
                    return false;
                }
            }
        }
    }

    /// Ends the child that nobody reads any more.
    pub(crate) async fn end(mut self) {
        self.running.end().await;
    }

    /// Waits for the end of a child that has said everything, and tells what it failed for.
    pub(crate) async fn finish(self) -> Ended {
        let (source, mut running, mut troubles) = (self.source, self.running, self.troubles);
        if self.broken.is_some() {
            running.end().await;
        }
        let mut outcome = running.finish(self.too_long).await;
        outcome.last_words.extend(self.last_words);
        source.board.foreign(self.foreign);
        // What a source says of one stream says more than its last word of all.
        troubles.sort_by_key(|trouble| trouble.stream_descriptor.is_none());
        let error = match self.broken {
            Some(error) => Some(error),
            None if outcome.is_good() && troubles.is_empty() => self.torn,
            None => Some(source.failed(&self.order, &outcome, &troubles, self.shares)),
        };
        source.board.ended(self.began.elapsed(), error.is_none());
        Ended { error, has_status: self.has_status }
    }
}

/// The state that the child is given: without the streams that are read whole.
fn input(protocol: Protocol, streams: &Streams, states: &States) -> Option<Value> {
    if !streams.keep_state() {
        return None;
    }
    let mut states = states.clone();
    for stream in streams.all.iter().filter(|stream| !stream.plan.wanted.mode.keeps_state()) {
        states.forget(stream.plan.name.as_str());
    }
    match protocol {
        Protocol::Airbyte => states.for_airbyte(),
        Protocol::Singer => states.for_singer(),
    }
}

fn place(last: &mut Option<(String, Option<String>, usize)>, places: &HashMap<String, usize>, record: &Record<'_>) -> Option<usize> {
    if let Some((name, namespace, place)) = last
        && *name == *record.stream
        && namespace.as_deref() == record.namespace.as_deref()
    {
        return Some(*place);
    }
    let full = crate::message::full_name(&record.stream, record.namespace.as_deref());
    let place = *places.get(&full)?;
    *last = Some((record.stream.to_string(), record.namespace.as_ref().map(ToString::to_string), place));
    Some(place)
}

/// Where messages that are no records go.
struct Heard<'a> {
    source: &'a Source,
    order: &'a Order,
    troubles: &'a mut Vec<Trouble>,
    has_status: &'a mut bool,
    last_words: &'a mut Option<String>,
    broken: &'a mut Option<SourceError>,
}

impl Heard<'_> {
    fn take(self, message: Message<'_>, streams: &mut Streams, states: &mut States) {
        match message {
            Message::Schema(schema) => {
                if let Some(stream) = streams.named(&schema.stream) {
                    stream.named(&columns(&schema.schema));
                }
            }
            Message::State(state) if streams.keep(&state) => states.note(state),
            Message::Error(trouble) => self.troubles.push(trouble),
            Message::Status { stream, status } => {
                *self.has_status = true;
                if let Some(stream) = streams.of(&stream) {
                    stream.set_status(status);
                }
            }
            Message::Estimate { stream, rows } => {
                if let Some(stream) = streams.of(&stream) {
                    self.source.board.expect(stream.plan.name.as_str(), rows);
                }
            }
            Message::Config(config) => self.source.update(&config),
            Message::Batch => {
                let error = SourceError::new(ErrorKind::BadConfig, self.order.doing(self.source.program()))
                    .because("it wrote its rows into files (BATCH), which are not read")
                    .advise("take `batch_config` out of the configuration of the tap");
                *self.broken = Some(error);
            }
            Message::Log(log) if matches!(log.level.as_str(), "FATAL" | "ERROR") => {
                *self.last_words = log.message.lines().next().map(str::to_owned);
            }
            _ => {}
        }
    }
}
