//! escherctl against a daemon that the test plays: which requests it makes and when, what it
//! prints, and how it exits.
#![allow(clippy::unwrap_used)]

mod config;
mod failures;
mod lists;
mod outages;
mod output;
mod quota;
mod resources;
mod results;
mod run;
mod signals;
mod support;
mod times;
mod top;
mod usage;
