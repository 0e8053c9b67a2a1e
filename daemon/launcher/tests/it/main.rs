//! The launcher and its shims by their behaviour: these tests play escherd.
//!
//! [`Launcher`] is the real program in a folder of its own and [`Shim`] escherd's end of one of its
//! shims. When a `Launcher` goes, the program and every shim of it must go too, or the test has
//! failed. Nothing waits by sleeping: messages, pidfds and [`Fifo`]s tell when something has
//! happened.
#![deny(unsafe_code)]
// In tests a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adoption;
mod alone;
mod claims;
mod commands;
mod conversation;
mod deaths;
mod disk;
mod ending;
mod files;
mod formats;
mod hostile;
mod identity;
mod input;
mod keeper;
mod launcher;
mod limits;
mod obstacles;
mod output;
mod oversized;
mod raw;
mod remains;
mod shim;
mod starting;
mod surroundings;

use commands::{exec, shell};
use escher_testkit::{Fifo, require_root};
use files::Output;
use launcher::{Launcher, OTHER_USER};
use shim::Shim;
