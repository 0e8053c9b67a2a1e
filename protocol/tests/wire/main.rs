//! The wire: its bytes, what holds for all of them, what a hostile peer can do, and the page about it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail like tests.

mod docs;
#[cfg(feature = "frames")]
mod frames;
mod golden;
mod hostile;
mod parts;
mod properties;

mod message;
mod samples;
mod schema;
mod strategies;
