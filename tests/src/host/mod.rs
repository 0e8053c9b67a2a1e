//! A virtual machine for tests: Debian 12 in QEMU, with a kernel, a systemd and a clock of its own.
//!
//! [`Debian`] is the system as it is installed, made once and kept under `target/host`. A [`Disk`] is a copy of
//! it, with a [`Kit`] of files that a test brings along. A [`Machine`] runs on a disk, which outlives it: it
//! can be shut down, rebooted, and cut from its power. Inside, the program `host-agent` runs the test's
//! scripts, many [`Task`]s at once ([`agent_protocol`] is what the two send each other).
//!
//! QEMU emulates the processor (TCG): the acceleration that virtual machines offer does not always run
//! another kernel. So everything takes some ten times as long as elsewhere, and tests assert outcomes and
//! order, not speed.

pub mod agent_protocol;
mod debian;
mod disk;
mod machine;
mod task;

pub use debian::Debian;
pub use disk::{Disk, Kit};
pub use machine::Machine;
pub use task::Task;

use std::time::Duration;

/// How long a single event may take in a slow machine on a busy host: a boot, a line of a task.
const DEADLINE: Duration = Duration::from_secs(600);
