//! escherctl against the daemon that the client library's tests play.
#![allow(dead_code, unused_imports)]

pub(crate) mod ctl;
#[path = "../../../escher-client/tests/support/mod.rs"]
mod daemon;

pub(crate) use daemon::*;
