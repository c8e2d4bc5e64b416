//! The source of one system: its configuration as the child is given it, and how children are started.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_sdk::{ErrorKind, OpenContext, SourceError};
use serde_json::Value;

use crate::board::Board;
use crate::child::{Launcher, Outcome, Running, find};
use crate::classify::failed;
use crate::config::{ExecConfig, Protocol};
use crate::folder::{WorkFolder, sweep};
use crate::limits::Limits;
use crate::message::Trouble;
use crate::scrub::Scrubber;
use crate::settings::{Kept, merged};

/// What the child is asked to do.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Airbyte: say which configuration it wants.
    Spec,
    /// Airbyte: look whether the configuration works.
    Check,
    /// Say which streams there are.
    Discover,
    /// Read the streams of a catalog, from a state.
    Read {
        /// The catalog.
        catalog: Value,
        /// The state, where there is one.
        state: Option<Value>,
    },
}

/// The source of one system.
pub(crate) struct Source {
    pub(crate) config: ExecConfig,
    pub(crate) board: Board,
    pub(crate) launcher: Launcher,
    /// The file that is read instead of asking for the streams.
    pub(crate) catalog: Option<PathBuf>,
    system: String,
    parent: PathBuf,
    kept: Option<Kept>,
    current: Mutex<Current>,
}

/// The configuration as the child is given it now, and what of it must never be shown.
struct Current {
    value: Value,
    scrubber: Arc<Scrubber>,
}

impl Source {
    /// Prepares to start children. Finds nothing wrong with a program that is not there: `probe` and `capture` tell it.
    pub(crate) fn open(config: ExecConfig, context: &OpenContext) -> Result<Self, SourceError> {
        let doing = || format!("opening system {}", context.system);
        let (system, base) = (context.system.to_string(), merged(&config));
        let parent = match &config.folder {
            Some(folder) => context.directory.join(folder),
            None => std::env::temp_dir(),
        };
        let parent = std::path::absolute(&parent).unwrap_or(parent);
        sweep(&parent, &system);
        let kept = config.updated_config.as_ref().map(|path| Kept::new(context.directory.join(path), &base));
        let read = match &kept {
            Some(kept) => kept.read().map_err(|error| {
                let why = format!("{}: {error}", kept.path().display());
                SourceError::new(ErrorKind::BadConfig, doing()).because(why).advise("mend or remove the file of `updated_config`")
            })?,
            None => None,
        };
        let mut scrubber = Scrubber::of(&config);
        if let Some(changed) = &read {
            scrubber.learn_members("", changed);
        }
        let program = config.command.first().map(String::as_str).unwrap_or_default();
        let program = find(program, &context.directory).map_or_else(|_| program.to_owned(), |path| path.display().to_string());
        let here = std::path::Path::new("/");
        let launcher = Launcher {
            command: std::iter::once(program).chain(config.command.iter().skip(1).cloned()).collect(),
            env: config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            address_mib: config.address_mib,
            longest: config.line_bytes(),
            last_words: config.stderr_lines.max(5),
            setpriv: find("setpriv", here).ok(),
            prlimit: find("prlimit", here).ok(),
        };
        let current = Mutex::new(Current { value: read.unwrap_or(base), scrubber: Arc::new(scrubber) });
        let catalog = config.catalog.as_ref().map(|path| context.directory.join(path));
        Ok(Self { config, board: Board::default(), launcher, catalog, system, parent, kept, current })
    }

    /// The name of the program, for people and for the checkpoint.
    pub(crate) fn program(&self) -> &str {
        self.launcher.program()
    }

    /// Knows what must never be shown.
    pub(crate) fn scrubber(&self) -> Arc<Scrubber> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner).scrubber)
    }

    /// The configuration as the child is given it now.
    pub(crate) fn settings(&self) -> Value {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).value.clone()
    }

    /// The source has changed its configuration: the next child is given the new one.
    pub(crate) fn update(&self, changed: &Value) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.value == *changed {
            return;
        }
        let mut scrubber = (*current.scrubber).clone();
        scrubber.learn_members("", changed);
        *current = Current { value: changed.clone(), scrubber: Arc::new(scrubber) };
        match self.kept.as_ref().map(|kept| kept.write(changed)) {
            Some(Ok(())) => tracing::info!(system = %self.system, "the source has changed its configuration; it is kept"),
            Some(Err(error)) => tracing::error!(system = %self.system, %error, "the configuration that the source changed cannot be kept"),
            None => tracing::warn!(
                system = %self.system,
                "the source has changed its configuration; set `updated_config`, or it is forgotten when the hub stops"
            ),
        }
    }

    /// Forgets a changed configuration.
    pub(crate) fn forget(&self) -> Result<(), SourceError> {
        match self.kept.as_ref().map(Kept::forget) {
            Some(Err(error)) => Err(SourceError::new(ErrorKind::Unreachable, "removing the file of `updated_config`").because(error)),
            _ => Ok(()),
        }
    }

    /// Why the program cannot be started, where that can be told before.
    pub(crate) fn missing(&self) -> Option<String> {
        find(&self.launcher.command[0], std::path::Path::new("/")).err()
    }

    /// Starts a child that carries out an order.
    pub(crate) async fn start(&self, order: &Order) -> Result<Running, SourceError> {
        if let Some(why) = self.missing() {
            return Err(SourceError::new(ErrorKind::BadConfig, format!("starting {}", self.program()))
                .because(why)
                .advise("install the source on the hub's machine, and mend `command`"));
        }
        if self.config.address_mib > 0 && self.launcher.prlimit.is_none() {
            return Err(SourceError::new(ErrorKind::BadConfig, format!("starting {}", self.program()))
                .because("`address_mib` needs the program prlimit, which is in no folder of PATH")
                .advise("install util-linux, or leave `address_mib` out"));
        }
        let writing = |error: std::io::Error| {
            let why = format!("{}: {error}", self.parent.display());
            SourceError::new(ErrorKind::NotPrepared, "writing the child's files").because(why).advise("make room, or set `folder`")
        };
        let folder = WorkFolder::make(&self.parent, &self.system).map_err(writing)?;
        let arguments = self.arguments(order, &folder).map_err(writing)?;
        let within = match order {
            Order::Read { .. } => self.config.run_within(),
            _ => self.config.ask_within(),
        };
        let silent_for = self.config.silent_for().max(Duration::from_millis(100));
        self.launcher.start(&arguments, folder, Limits { memory_mib: self.config.memory_mib, silent_for, within }).await
    }

    fn arguments(&self, order: &Order, folder: &WorkFolder) -> std::io::Result<Vec<String>> {
        let mut arguments = Vec::new();
        let file = |argument: &str, name: &str, content: &Value| -> std::io::Result<[String; 2]> {
            Ok([argument.to_owned(), folder.write(name, content.to_string().as_bytes())?.display().to_string()])
        };
        let is_airbyte = self.config.protocol == Protocol::Airbyte;
        if is_airbyte {
            arguments.push(order.verb().to_owned());
        }
        if !matches!(order, Order::Spec) {
            arguments.extend(file("--config", "config.json", &self.settings())?);
        }
        match order {
            Order::Spec | Order::Check => {}
            Order::Discover if is_airbyte => {}
            Order::Discover => arguments.push("--discover".to_owned()),
            Order::Read { catalog, state } => {
                let argument = if is_airbyte { "--catalog" } else { &self.config.catalog_argument };
                if !argument.is_empty() {
                    arguments.extend(file(argument, "catalog.json", catalog)?);
                }
                if let Some(state) = state {
                    arguments.extend(file("--state", "state.json", state)?);
                }
            }
        }
        arguments.extend(self.config.arguments.iter().cloned());
        Ok(arguments)
    }

    /// The error of a child that did not do what it was asked for.
    pub(crate) fn failed(&self, order: &Order, outcome: &Outcome, troubles: &[Trouble], shares: bool) -> SourceError {
        let scrubber = self.scrubber();
        if self.config.stderr_lines == 0 {
            // Its kind is told by its words, which nobody is shown.
            let kind = failed("", outcome, troubles, &scrubber, shares).kind();
            if troubles.is_empty() && outcome.exceeded.is_none() && !outcome.too_long {
                return SourceError::new(kind, order.doing(self.program()))
                    .because("it failed; `stderr_lines` is 0, so that its words are not shown");
            }
        }
        failed(&order.doing(self.program()), outcome, troubles, &scrubber, shares)
    }
}

impl Order {
    fn verb(&self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Check => "check",
            Self::Discover => "discover",
            Self::Read { .. } => "read",
        }
    }

    /// What is being done, for errors.
    pub(crate) fn doing(&self, program: &str) -> String {
        match self {
            Self::Spec => format!("asking {program} for the settings that it wants"),
            Self::Check => format!("asking {program} whether its configuration works"),
            Self::Discover => format!("asking {program} for its streams"),
            Self::Read { .. } => format!("reading by {program}"),
        }
    }
}
