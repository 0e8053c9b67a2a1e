//! HTTP on escherd's socket: the same operations, records and authority as in frames.

mod hostile;
mod resources;
mod streams;
