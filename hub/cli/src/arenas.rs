//! Bounds what the C library's allocator keeps to itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// How many arenas the allocator may have. glibc gives threads that allocate at the same time up to eight a core, and each keeps the
/// most that it ever held: 101 idle systems held 334 MB with sixteen, 166 MB with two (`hub-bench sources --only idle`).
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Begins the process anew, with its id and its arguments, under one arena a core and two at least; does nothing where the environment
/// says how many. The allocator reads it once, before `main`. Where that cannot be done, the process goes on as it is.
pub(crate) fn bound() {
    if std::env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).env(ARENAS, cores.max(2).to_string()).exec();
    eprintln!("note: the memory that the allocator keeps is not bounded: the program cannot be begun anew: {error}");
}
