//! A whole machine for tests: Debian 12 in QEMU, with a kernel, a systemd and a clock of its own.
//!
//! [`Debian`] is the system as it is installed, made once and kept under `target/host`. A [`Disk`] is a copy of
//! it, with a [`Kit`] of what a test brings along. A [`Machine`] runs on a disk, which outlives it: it can be
//! shut down, started anew, and cut from its power. Inside, the program `hand` carries out what the test
//! says, as many [`Task`]s at once as it likes ([`orders`] is what the two say to each other).
//!
//! QEMU works without the help of the processor (TCG), since what there is of that in virtual machines does
//! not always run another kernel. So all is some ten times slower than elsewhere: outcomes can be asserted here, and order.

mod debian;
mod disk;
mod machine;
pub mod orders;
mod task;

pub use debian::Debian;
pub use disk::{Disk, Kit};
pub use machine::Machine;
pub use task::Task;

use std::time::Duration;

/// How long one thing may take in a machine that is slow, on a host that is busy: a boot, a word of a task.
const DEADLINE: Duration = Duration::from_secs(180);
