//! One child process in a group of its own: how it starts, what it says, and that it ends.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::{ErrorKind, SourceError};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncRead;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::folder::WorkFolder;
use crate::limits::{Exceeded, Limits, Pulse, members, watch};
use crate::lines::{Lines, TooLong};

/// Time that a child has to end by itself, once it is asked to or has closed its output.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of one line of stderr that are kept.
const WORDS: usize = 4 << 10;

/// How children of a system are started.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// The program, found, and its first arguments.
    pub(crate) command: Vec<String>,
    /// Environment of the child, beside what every child has. Holds secrets.
    pub(crate) env: Vec<(String, hub_sdk::Secret)>,
    /// Address space of each process, MiB; 0 for no limit.
    pub(crate) address_mib: u64,
    /// Longest line of its output, bytes.
    pub(crate) longest: usize,
    /// Lines of stderr that are kept.
    pub(crate) last_words: usize,
    /// `setpriv`, where there is one: it ends the child with the hub.
    pub(crate) setpriv: Option<PathBuf>,
    /// `prlimit`, where there is one: no core dumps, and the address space.
    pub(crate) prlimit: Option<PathBuf>,
}

/// A child that runs. Its group is ended and its folder removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
    /// What it says.
    pub(crate) lines: Lines<ChildStdout>,
    /// What is known of it.
    pub(crate) pulse: Arc<Pulse>,
    words: Arc<Mutex<VecDeque<String>>>,
    watching: JoinHandle<()>,
    listening: Option<JoinHandle<()>>,
    exited: Option<ExitStatus>,
    /// Removed after the group was ended: fields are dropped in their order, after `drop`.
    _folder: WorkFolder,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit; `None` where it was ended.
    pub(crate) status: Option<ExitStatus>,
    /// The limit for which it was ended.
    pub(crate) exceeded: Option<Exceeded>,
    /// A line was too long.
    pub(crate) too_long: bool,
    /// The last lines of stderr, as it wrote them.
    pub(crate) last_words: Vec<String>,
}

impl Outcome {
    /// Whether it did what it was asked for.
    pub(crate) fn is_good(&self) -> bool {
        self.exceeded.is_none() && !self.too_long && self.status.is_some_and(|status| status.success())
    }
}

/// Where programs without a path are looked for, by the hub and by its children: the environment is not the connector's to read.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program: a path, or a name in [`PATH`]. What it was looked for as, where it is not there.
pub(crate) fn find(program: &str, directory: &Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        let path = directory.join(program);
        // A relative program would be looked for in the folder of the run.
        let path = std::path::absolute(&path).unwrap_or(path);
        return if is_program(&path) { Ok(path) } else { Err(format!("{} is no program that may be run", path.display())) };
    }
    let found = PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| is_program(path));
    found.ok_or_else(|| format!("{program} is in no folder of {PATH}; write the path of the program"))
}

impl Launcher {
    /// Starts the child with further arguments.
    pub(crate) async fn start(&self, arguments: &[String], folder: WorkFolder, limits: Limits) -> Result<Running, SourceError> {
        let doing = || format!("starting {}", self.program());
        let mut child = crate::spawn::spawn(self.command(arguments, folder.path())).await.map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::BadConfig } else { ErrorKind::Unreachable };
            SourceError::new(kind, doing()).because(error).advise("look whether the program and its interpreter can be run here")
        })?;
        let gone = || SourceError::new(ErrorKind::Defect, doing());
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or_else(gone)?;
        // The kernel, short of memory, rather ends the child than the hub.
        let _refused = std::fs::write(format!("/proc/{}/oom_score_adj", group.as_raw_nonzero()), "500");
        let (stdout, stderr) = (child.stdout.take().ok_or_else(gone)?, child.stderr.take().ok_or_else(gone)?);
        let (pulse, words) = (Arc::new(Pulse::new()), Arc::default());
        let watching = tokio::spawn(watch(group, Arc::clone(&pulse), limits));
        let listening = Some(tokio::spawn(listen(stderr, Arc::clone(&pulse), Arc::clone(&words), self.last_words)));
        let lines = Lines::new(stdout, self.longest);
        Ok(Running { child, group, lines, pulse, words, watching, listening, exited: None, _folder: folder })
    }

    /// The program's name, for people.
    pub(crate) fn program(&self) -> &str {
        let program = self.command.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program)
    }

    fn command(&self, arguments: &[String], home: &Path) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(prlimit) = &self.prlimit {
            // A core dump would hold rows and secrets.
            words.extend([prlimit.display().to_string(), "--core=0".to_owned()]);
            if self.address_mib > 0 {
                words.push(format!("--as={}", self.address_mib << 20));
            }
            words.push("--".to_owned());
        }
        if let Some(setpriv) = &self.setpriv {
            words.push(setpriv.display().to_string());
            words.extend(["--pdeathsig", "KILL", "--no-new-privs", "--"].map(str::to_owned));
        }
        words.extend(self.command.iter().chain(arguments).cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir(home);
        command.env("PATH", PATH).env("HOME", home).env("TMPDIR", home).env("LANG", "C.UTF-8").env("TZ", "UTC");
        command.envs(self.env.iter().map(|(name, value)| (name, value.reveal())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command
    }
}

impl Running {
    /// Waits for more output. False where nothing more comes.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        if self.exited.is_none() {
            tokio::select! {
                biased;
                filled = self.lines.fill() => {
                    self.pulse.beat();
                    return filled;
                }
                status = self.child.wait() => self.exited = Some(status?),
            }
        }
        // Whoever else holds its output, it is over; what it has said itself is in the pipe already.
        match tokio::time::timeout(GRACE, self.lines.fill()).await {
            Ok(filled) => {
                self.pulse.beat();
                filled
            }
            Err(_elapsed) => Ok(false),
        }
    }

    /// The next line that is there.
    pub(crate) fn line(&mut self) -> Option<Result<&[u8], TooLong>> {
        self.lines.line()
    }

    /// While the hub lets the child wait, neither its silence nor its time count.
    pub(crate) async fn holding<T>(pulse: &Pulse, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        pulse.hold();
        let done = work.await;
        pulse.go_on(since.elapsed());
        done
    }

    /// Waits for the end of a child that has said everything, ends what is left of its group, and tells how it ended.
    pub(crate) async fn finish(mut self, too_long: bool) -> Outcome {
        if self.exited.is_none() && !too_long {
            self.exited = tokio::time::timeout(GRACE, self.child.wait()).await.ok().and_then(Result::ok);
        }
        self.end().await;
        let last_words = self.words.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        Outcome { status: self.exited, exceeded: self.pulse.exceeded(), too_long, last_words }
    }

    /// Ends the group: asked first, then without asking. Nothing of it lives afterwards.
    pub(crate) async fn end(&mut self) {
        let since = Instant::now();
        self.signal(Signal::TERM);
        while since.elapsed() < GRACE {
            if self.exited.is_none()
                && let Ok(Some(status)) = self.child.try_wait()
            {
                self.exited = Some(status);
            }
            if self.exited.is_some() && members(self.group).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.signal(Signal::KILL);
        if self.exited.is_none() {
            let _status = tokio::time::timeout(GRACE, self.child.wait()).await;
        }
        // Its last words are read to their end, unless somebody else holds them open.
        if let Some(mut listening) = self.listening.take()
            && tokio::time::timeout(Duration::from_millis(200), &mut listening).await.is_err()
        {
            listening.abort();
        }
    }

    fn signal(&self, signal: Signal) {
        // An error says that nothing of the group is left.
        let _nobody = kill_process_group(self.group, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.watching.abort();
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps the last lines that are not empty.
async fn listen(stderr: impl AsyncRead + Unpin, pulse: Arc<Pulse>, words: Arc<Mutex<VecDeque<String>>>, last: usize) {
    let mut lines = Lines::new(stderr, 16 * WORDS);
    loop {
        while let Some(line) = lines.line() {
            let Ok(line) = line else {
                lines.skip();
                break;
            };
            let line = String::from_utf8_lossy(&line[..line.len().min(WORDS)]).into_owned();
            if line.is_empty() || last == 0 {
                continue;
            }
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() >= last {
                words.pop_front();
            }
            words.push_back(line);
        }
        pulse.beat();
        if !matches!(lines.fill().await, Ok(true)) {
            return;
        }
    }
}
