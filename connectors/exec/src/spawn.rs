//! Starts children from one thread that never ends, since the kernel ends a child with the thread that started it.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Starts a command. Its `setpriv --pdeathsig KILL` fires when the thread that started it ends, and a thread of a runtime may
/// end at any time; this one ends with the hub.
pub(crate) async fn spawn(mut command: Command) -> io::Result<Child> {
    let (told, answer) = oneshot::channel();
    let runtime = Handle::current();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        // Nobody waits any more: the child is dropped, and ends by that.
        drop(told.send(command.spawn()));
    });
    let gone = || io::Error::other("the thread that starts children is gone");
    spawner()?.send(job).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

fn spawner() -> io::Result<&'static Sender<Job>> {
    static SPAWNER: OnceLock<io::Result<Sender<Job>>> = OnceLock::new();
    let start = || {
        let (jobs, waiting) = channel::<Job>();
        let work = move || waiting.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("exec-spawner".to_owned()).spawn(work).map(|_| jobs)
    };
    SPAWNER.get_or_init(start).as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}
