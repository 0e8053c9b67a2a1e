//! What the tests of every crate share.
//!
//! No test waits by sleeping. Processes and tests wait for each other by [`Fifo`]s, [`watch`] reports
//! changes of a directory, and [`wait`] has the kernel report messages and exits. Each wait has a
//! [`DEADLINE`] after which the test fails; below it no test depends on the speed of the machine.
//!
//! A test that cannot run on a host calls [`require_root`], [`require_program`] or [`report_skipped`].

mod fifo;
mod process;
mod skip;
mod terminal;
mod tmpfs;
pub mod wait;
pub mod watch;

pub use fifo::Fifo;
pub use process::{
    Descendant, descendants, is_unlocked, load, monotonic, parent_of, peak_memory_bytes,
    resident_bytes, wait_until_unlocked,
};
pub use skip::{SKIPPED_FILE, has_program, report_skipped, require_program, require_root};
pub use terminal::Terminal;
pub use tmpfs::{Ramfs, Tmpfs, fill_disk};
pub use wait::{DEADLINE, LONG_DEADLINE, with_growing_timeout};
