//! The behaviour of the launcher and its shims: these tests take the part of escherd.
//!
//! [`Launcher`] is the real program in a directory of its own, and [`Shim`] is escherd's end of one
//! of its shims. When a `Launcher` is dropped, the program and all its shims must end, or the test
//! fails. Nothing waits by sleeping: messages, pidfds and [`Fifo`]s tell when something has
//! happened.
#![deny(unsafe_code)]
// In tests a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adoption;
mod child_setup;
mod claims;
mod commands;
mod ending;
mod failed_starts;
mod file_removal;
mod formats;
mod hostile_users;
mod identity;
mod idle_shim;
mod input;
mod keeper;
mod launcher;
mod leaving;
mod log_access;
mod log_budgets;
mod log_limits;
mod log_reader;
mod messages;
mod output;
mod output_limit;
mod pipe_holders;
mod process_environment;
mod process_limits;
mod raw;
mod shim;
mod shim_deaths;
mod signals;
mod small_disk;
mod unwritable_logs;
mod without_escherd;

use commands::{exec, shell};
use escher_testkit::{Fifo, require_root};
use launcher::{Launcher, OTHER_USER};
use log_reader::Output;
use shim::Shim;
