//! Tests of the wire format: golden bytes, properties, hostile input, and the page that documents
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Test helpers fail like tests.

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
