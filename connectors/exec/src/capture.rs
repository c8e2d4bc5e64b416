//! Runs, and runs again: what each tells goes out with the state before it, and what is absent is deleted at its end.

use std::sync::Arc;
use std::time::Instant;

use hub_sdk::model::Checkpoint;
use hub_sdk::{Delivery, Ended, ErrorKind, OpenContext, Outlet, SourceError};

use crate::ask::discover;
use crate::catalog::Offered;
use crate::child::Running;
use crate::config::Protocol;
use crate::plan::{Plan, broken, plan};
use crate::run::{Paused, Run, Streams};
use crate::source::Source;
use crate::state::States;
use crate::stream::{Before, identity, is_of};

/// Partition that says which program was read.
const SOURCE: &str = "source";

/// What capturing a system needs.
pub(crate) struct Capture {
    source: Arc<Source>,
    context: OpenContext,
    outlet: Outlet,
    offered: Vec<Offered>,
    discovered: Instant,
    streams: Streams,
    states: States,
}

/// Plans all asked streams.
pub(crate) fn plans(source: &Source, offered: &[Offered], context: &OpenContext) -> Result<Vec<Plan>, SourceError> {
    let one = |request| plan(&source.config, offered, request).map_err(|finding| broken(finding, &request.stream));
    context.streams.iter().map(one).collect()
}

impl Capture {
    /// Asks for the streams and goes on after a checkpoint.
    pub(crate) async fn begin(source: Arc<Source>, context: OpenContext, from: &Checkpoint, outlet: Outlet) -> Result<Self, Ended> {
        let program = expected(&source, from)?;
        // A question keeps nothing: it is ended by being dropped.
        let offered = tokio::select! {
            offered = discover(&source) => offered?,
            () = outlet.shut() => return Err(Ended::Shut),
        };
        let plans = plans(&source, &offered, &context)?;
        let mismatch =
            |why: String| SourceError::new(ErrorKind::Mismatch, "going on after a checkpoint").because(why).advise("read the system anew");
        let (mut kept, mut states) = (from.clone(), States::restore(from).map_err(mismatch)?);
        let mut moved = forgotten(&plans, &mut kept, &mut states);
        states.save(&mut moved);
        if from.get(SOURCE).is_none() {
            moved.set(SOURCE, program);
        }
        let restored = Streams::restore(plans, &kept, source.config.remember_rows);
        let streams = restored.map_err(|(plan, why)| mismatch(why).of(plan.name))?;
        if !moved.is_empty() {
            outlet.deliver(Delivery::new(Vec::new(), moved)).await?;
        }
        Ok(Self { source, context, outlet, offered, discovered: Instant::now(), streams, states })
    }

    /// Runs until an error or until nobody receives.
    pub(crate) async fn run(mut self) -> Result<(), Ended> {
        let mut is_following = false;
        loop {
            self.run_once().await?;
            if !is_following && self.streams.all.iter().all(|stream| stream.is_complete) {
                is_following = true;
                // An empty delivery is the word that changes are followed now.
                self.outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await?;
            }
            self.outlet.pause(self.source.config.every()).await?;
            if self.discovered.elapsed() >= self.source.config.discover_every() {
                self.rediscover().await?;
            }
        }
    }

    async fn rediscover(&mut self) -> Result<(), Ended> {
        self.offered = tokio::select! {
            offered = discover(&self.source) => offered?,
            () = self.outlet.shut() => return Err(Ended::Shut),
        };
        self.discovered = Instant::now();
        self.streams.replan(plans(&self.source, &self.offered, &self.context)?);
        Ok(())
    }

    async fn run_once(&mut self) -> Result<(), Ended> {
        let mut run = Run::start(&self.source, &self.offered, &mut self.streams, &self.states).await?;
        self.source.board.began(run.pulse());
        let (outlet, limits) = (self.outlet.clone(), self.context.limits);
        loop {
            let paused = tokio::select! {
                paused = run.step(&mut self.streams, &mut self.states, limits) => paused,
                () = outlet.shut() => {
                    run.end().await;
                    return Err(Ended::Shut);
                }
            };
            let pulse = run.pulse();
            if let Err(ended) = Running::holding(&pulse, self.flush()).await {
                run.end().await;
                return Err(ended);
            }
            if paused == Paused::Over {
                break;
            }
        }
        let ended = run.finish().await;
        let is_good = ended.error.is_none();
        for place in 0..self.streams.all.len() {
            let stream = &self.streams.all[place];
            let speaks = ended.has_status || self.source.config.protocol == Protocol::Singer;
            if stream.is_told_complete() || (is_good && (stream.is_read() || !speaks)) {
                self.complete(place).await?;
            } else if is_good {
                tracing::warn!(stream = %stream.plan.name, "the run has ended well, but the child has not read this stream to its end");
            }
        }
        match ended.error {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Hands over the rows that wait, with the state that came before them or among them.
    async fn flush(&mut self) -> Result<(), Ended> {
        let (mut batches, mut checkpoint) = (Vec::new(), Checkpoint::empty());
        for stream in &mut self.streams.all {
            let told = stream.batches().map_err(defect)?;
            if told.is_empty() {
                continue;
            }
            batches.extend(told);
            stream.save(&mut checkpoint);
            self.source.board.read(stream.plan.name.as_str(), stream.records(), stream.is_complete);
        }
        self.states.save(&mut checkpoint);
        if batches.is_empty() && checkpoint.is_empty() {
            return Ok(());
        }
        Ok(self.outlet.deliver(Delivery::new(batches, checkpoint)).await?)
    }

    /// A run has read a stream to its end: what it has not seen is gone, and a first run has told all there is.
    async fn complete(&mut self, place: usize) -> Result<(), Ended> {
        let stream = &mut self.streams.all[place];
        if stream.records() < stream.plan.at_least {
            let why = format!("it has shown {} rows, fewer than `at_least`, {}", stream.records(), stream.plan.at_least);
            let error = SourceError::new(ErrorKind::NotPrepared, format!("reading a stream whole by {}", self.source.program()));
            let advice = "look whether the source shows all; lower `at_least` where it does";
            return Err(error.because(why).advise(advice).of(stream.plan.name.clone()).into());
        }
        let absent = stream.absent();
        for keys in absent.chunks(self.context.limits.rows.max(1)) {
            let mut checkpoint = Checkpoint::empty();
            let batches = stream.deletes(keys).map_err(defect)?.into_iter().collect();
            stream.save(&mut checkpoint);
            self.outlet.deliver(Delivery::new(batches, checkpoint)).await?;
        }
        if !stream.is_complete {
            stream.is_complete = true;
            let mut checkpoint = Checkpoint::empty();
            stream.save(&mut checkpoint);
            let name = stream.plan.name.clone();
            self.source.board.read(name.as_str(), stream.records(), true);
            self.outlet.deliver(Delivery::new(Vec::new(), checkpoint).completing(vec![name])).await?;
        }
        Ok(())
    }
}

pub(crate) fn defect(error: arrow::error::ArrowError) -> SourceError {
    SourceError::new(ErrorKind::Defect, "building columns").because(error)
}

/// Makes sure that the checkpoint is of this program.
fn expected(source: &Source, from: &Checkpoint) -> Result<serde_json::Value, SourceError> {
    let protocol = match source.config.protocol {
        Protocol::Airbyte => "airbyte",
        Protocol::Singer => "singer",
    };
    let mine = identity(protocol, source.program());
    match from.get(SOURCE) {
        Some(before) if *before != mine => Err(SourceError::new(ErrorKind::Mismatch, format!("reading by {}", source.program()))
            .because(format!("what is published was read by {}, and no other program understands its state", before["program"]))
            .advise("mend `command`, or read the system anew")),
        _ => Ok(mine),
    }
}

/// What the checkpoint holds of streams that are not asked for, or were read in another way: it is taken out of all three.
fn forgotten(plans: &[Plan], kept: &mut Checkpoint, states: &mut States) -> Checkpoint {
    let mut gone = Checkpoint::empty();
    let stays = |plan: &&Plan| Before::of(kept, &plan.name).is_some_and(|before| before.fits(&plan.wanted));
    let staying: Vec<String> = plans.iter().filter(stays).map(|plan| plan.name.to_string()).collect();
    for name in states.names() {
        if !staying.contains(&name) {
            states.forget(&name);
        }
    }
    for (partition, position) in kept.iter() {
        let is_kept = staying.iter().any(|name| is_of(partition, name));
        let is_rows = ["known/", "window/", "read/", "look/"].iter().any(|kind| partition.starts_with(kind));
        // A later look is later than all before, whatever is read anew.
        let is_look = plans.iter().any(|plan| partition == format!("look/{}", plan.name));
        if position.is_some() && is_rows && !is_kept && !is_look {
            gone.remove(partition);
        }
    }
    kept.merge(&gone);
    gone
}
