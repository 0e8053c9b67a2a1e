//! Starting commands: the launcher, ready shims, and the shims that run something.
//!
//! One task, [`run`], carries out the scheduler's [`Effect`](crate::scheduler::Effect)s. It owns
//! three state machines that do no I/O (`pool`, `shim_deaths`, `file_tasks`) and the link to the
//! launcher (`launcher_link`). A launch is one packet to a ready shim. Each shim with a command has a
//! task of its own (`shim`), which relays messages between it and the scheduler; afterwards the shim
//! returns to the pool. The shims of an earlier escherd are found by `adoption` and then treated like
//! all others. What a finished execution has left running is reached by `left` alone.

mod adoption;
mod async_packet_socket;
mod dispatcher;
mod exit_records;
mod file_tasks;
mod launcher;
mod launcher_link;
mod left;
mod pool;
mod shim;
mod shim_deaths;

pub use adoption::{Adoption, adopt_shims};
pub use dispatcher::run;
pub use exit_records::{ExitRecords, read_exit_records};
pub use launcher::{
    LauncherConnection, LauncherConnectionError, LauncherSettings, LauncherSource, LauncherState,
};
pub use left::LeftProcesses;
