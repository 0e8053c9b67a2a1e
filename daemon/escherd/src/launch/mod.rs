//! Starting commands: the launcher, the shims that are ready, and those that run something.
//!
//! One task, [`run`], carries out the engine's [`Effect`](crate::scheduler::Effect)s. It keeps a pool of ready shims, so that a launch
//! is one packet to one of them. Each shim with a command has a task of its own ([`shim`]) that carries
//! orders to it and news to the engine; afterwards the shim comes back to the pool. Shims of an earlier
//! escherd are found by [`adoption`] and then are like the others.

mod adoption;
mod exit_records;
mod launcher;
mod packets;
mod pool;
mod removals;
mod shim;
mod state;

pub use adoption::{Adoption, adopt};
pub use exit_records::{ExitRecords, exit_records};
pub use launcher::{Connection, LaunchError, LauncherSettings, Source};
pub use pool::run;
pub use state::LauncherState;
