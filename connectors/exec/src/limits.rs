//! What a child may not exceed: memory of its whole group, silence, time. Looked at twice a second beside the reading.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);

/// The limits of one child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Memory of the group.
    pub(crate) memory_mib: u64,
    /// Longest silence.
    pub(crate) silent_for: Duration,
    /// Longest run, not counting the time that the hub makes it wait.
    pub(crate) within: Duration,
}

/// Which limit a child was ended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// It held so many MiB.
    Memory(u64),
    /// It said nothing.
    Silent,
    /// It took too long.
    Late,
}

/// What is known of a child that runs. Shared by who reads it and who watches it; touched once per read, never per line.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// When it was last heard, milliseconds since it began.
    heard: AtomicU64,
    /// The hub makes it wait: neither silence nor time count.
    is_held: AtomicBool,
    /// Milliseconds that it was made to wait.
    held: AtomicU64,
    /// Memory of the group when it was last looked, KiB.
    memory_kib: AtomicU64,
    exceeded: OnceLock<Exceeded>,
}

impl Pulse {
    /// Of a child that begins now.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            heard: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
            held: AtomicU64::new(0),
            memory_kib: AtomicU64::new(0),
            exceeded: OnceLock::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// It said something.
    pub(crate) fn beat(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// The hub makes it wait until [`Pulse::go_on`].
    pub(crate) fn hold(&self) {
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// The hub reads again, after so long.
    pub(crate) fn go_on(&self, waited: Duration) {
        self.held.fetch_add(u64::try_from(waited.as_millis()).unwrap_or(0), Ordering::Relaxed);
        self.beat();
        self.is_held.store(false, Ordering::Relaxed);
    }

    /// The limit for which it was ended.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.get().copied()
    }

    /// Memory of the group when it was last looked.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.memory_kib.load(Ordering::Relaxed)
    }

    /// Which limit is exceeded now.
    fn judge(&self, limits: &Limits) -> Option<Exceeded> {
        let mib = self.memory_kib() >> 10;
        if mib > limits.memory_mib {
            return Some(Exceeded::Memory(mib));
        }
        if self.is_held.load(Ordering::Relaxed) {
            return None;
        }
        let (now, milliseconds) = (self.now(), |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if now.saturating_sub(self.heard.load(Ordering::Relaxed)) > milliseconds(limits.silent_for) {
            return Some(Exceeded::Silent);
        }
        let ran = now.saturating_sub(self.held.load(Ordering::Relaxed));
        (ran > milliseconds(limits.within)).then_some(Exceeded::Late)
    }
}

/// Looks until a limit is exceeded, and then ends the group. Ended by its owner when the child is over.
pub(crate) async fn watch(group: Pid, pulse: std::sync::Arc<Pulse>, limits: Limits) {
    loop {
        tokio::time::sleep(EVERY.min(limits.silent_for).min(limits.within)).await;
        let memory = tokio::task::spawn_blocking(move || resident_kib(group)).await.unwrap_or(0);
        pulse.memory_kib.store(memory, Ordering::Relaxed);
        if let Some(exceeded) = pulse.judge(&limits) {
            let _first = pulse.exceeded.set(exceeded);
            // Without a word before: what exceeds its limits is not trusted to end by itself.
            if let Err(error) = kill_process_group(group, Signal::KILL) {
                tracing::warn!(group = group.as_raw_nonzero().get(), %error, "a group of processes cannot be ended");
            }
            return;
        }
    }
}

/// Resident memory of all processes of a group, KiB. Pages that two of them share count twice.
fn resident_kib(group: Pid) -> u64 {
    members(group).into_iter().filter_map(resident).sum()
}

/// The processes of a group that live.
pub(crate) fn members(group: Pid) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let is_member = |pid: &u32| {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // `pid (name) state parent group …`; the name may hold anything.
        let mut rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let (state, of) = (rest.next(), rest.nth(1));
        state != Some("Z") && of.and_then(|of| of.parse().ok()) == Some(group.as_raw_nonzero().get())
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_member).collect()
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_mib: 10, silent_for: Duration::from_millis(30), within: Duration::from_secs(60) };

    #[test]
    fn a_child_that_the_hub_makes_wait_is_not_silent() {
        let pulse = Pulse::new();
        pulse.hold();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(pulse.judge(&LIMITS), None);
        pulse.go_on(Duration::from_millis(60));
        assert_eq!(pulse.judge(&LIMITS), None);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(pulse.judge(&LIMITS), Some(Exceeded::Silent));
    }

    #[test]
    fn memory_counts_also_while_it_waits() {
        let pulse = Pulse::new();
        pulse.hold();
        pulse.memory_kib.store(20 << 10, Ordering::Relaxed);
        assert_eq!(pulse.judge(&LIMITS), Some(Exceeded::Memory(20)));
    }
}
