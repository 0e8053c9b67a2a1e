//! What the end-to-end tests stand on: real programs in folders of their own, watched for what they
//! leave behind.
//!
//! [`Daemon`] is an escherd that runs under the helper program `reaper`, so that at the end not one process
//! may be left; [`Ctl`] runs escherctl against it; [`child_program`] plays commands that behave oddly. Nothing here
//! waits by sleeping: readiness comes as a datagram, ends come from the kernel, and [`Fifo`] and [`watch`]
//! tell when something has happened inside a command.

mod binaries;
pub mod crashtest;
mod ctl;
mod daemon;
pub mod fake_daemon;
mod fifo;
mod home;
pub mod host;
mod journal;
mod keeper;
mod library;
mod metrics;
mod output;
mod package;
mod process;
mod raw;
pub mod samples;
mod tmpfs;
pub mod watch;

pub use binaries::{child_program, escherctl, escherd, launcher, pages, promtool, reaper};
pub use ctl::{Ctl, Ended, Started, finish};
pub use daemon::{Builder, Daemon, Exit};
pub use fifo::Fifo;
pub use home::Home;
pub use journal::Journal;
pub use keeper::Keeper;
pub use library::{collect, connect, exec, in_runtime, in_runtime_within, shell, wait_started};
pub use metrics::Metrics;
pub use output::{Digest, sha256sum};
pub use package::Package;
pub use process::{
    Descendants, becomes_free, descendants, is_free, load, monotonic, parent_of, peak_memory_bytes,
    resident_bytes,
};
pub use raw::RawPeer;
pub use tmpfs::Tmpfs;

/// What the actor's `witness` of this name writes as its line number `index`.
#[must_use]
pub fn witness_line(name: &str, index: u64) -> String {
    let number = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{name} {index} {number:x}\n")
}

use std::io::Write;
use std::time::Duration;

/// How long anything may take that is expected to happen at once. A test that waits so long has failed;
/// none passes or fails by how long something took below it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The same for what moves gigabytes.
pub const LONG_DEADLINE: Duration = Duration::from_secs(400);

/// Whether this test can switch users. Where it cannot, says loudly that `what` was not tested.
#[must_use]
pub fn is_root_for(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        say_skipped("needs root", what);
    }
    root
}

/// Whether the host has this program. Where it has not, says loudly that `what` was not tested.
#[must_use]
pub fn is_here(program: &str, what: &str) -> bool {
    let here = has_program(program);
    if !here {
        say_skipped(&format!("needs {program}"), what);
    }
    here
}

fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Says loudly that `what` was not tested.
fn say_skipped(why: &str, what: &str) {
    // Not by a macro, whose output the test harness would keep to itself.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, {why}: {what} ***\n");
}
