//! The testkit of the end-to-end tests: the real programs, each in directories of its own, watched for
//! processes that they leave behind.
//!
//! [`Daemon`] is an escherd that runs under the helper program `reaper`, so that not one process may be
//! left when it stops. [`Ctl`] runs escherctl against it, and `child-program` plays commands that
//! behave oddly. Everything else, above all how tests wait, is in [`escher_testkit`].
//!
//! Tests run in parallel threads of one process. So nothing here changes what belongs to the whole
//! process (its working directory, environment, umask, limits, children of others): a test that needs
//! that does it in a process of its own.

pub mod attack;
mod binaries;
pub mod console;
pub mod crashtest;
mod ctl;
mod daemon;
mod daemon_builder;
mod digest;
pub mod fake_daemon;
mod held_connections;
mod home;
pub mod host;
mod http_peer;
mod journal;
mod keeper;
pub mod largest;
mod library;
mod metrics;
mod package;
mod page_faults;
mod program;
mod random;
mod raw_peer;
pub mod samples;

pub use escher_testkit::*;

pub use binaries::{
    attack_program, child_program, escherctl, escherd, launcher, pages, promtool, reaper,
};
pub use ctl::Ctl;
pub use daemon::{Daemon, Exit};
pub use daemon_builder::DaemonBuilder;
pub use digest::{Digest, sha256sum};
pub use held_connections::{HeldConnections, hold_connections};
pub use home::Home;
pub use http_peer::{HttpAnswer, HttpHead, HttpPeer, http};
pub use journal::Journal;
pub use keeper::Keeper;
pub use library::{collect, connect, exec, in_runtime, next_chunk, shell, wait_started};
pub use metrics::Metrics;
pub use package::Package;
pub use page_faults::{RunCost, run_cost};
pub use program::{FinishedProgram, ProgramOutput, RunningProgram, run_program};
pub use random::Random;
pub use raw_peer::RawPeer;

/// Line number `index` of what `child-program record-run` writes under this name.
#[must_use]
pub fn recorded_line(name: &str, index: u64) -> String {
    let number = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{name} {index} {number:x}\n")
}
