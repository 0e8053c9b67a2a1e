//! escherctl as a child process, and the daemon that the client library's tests play.
#![allow(dead_code, unused_imports)]

pub(crate) mod answers;
#[path = "../../../../escher-client/tests/support/mod.rs"]
mod daemon;
pub(crate) mod escherctl;

pub(crate) use daemon::*;
