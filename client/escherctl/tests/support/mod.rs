//! escherctl against the fake daemon of the testkit.
#![allow(dead_code)]

pub(crate) mod ctl;
