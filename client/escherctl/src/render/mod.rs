//! Answers as text for people and as JSON for programs.
//!
//! Nothing that a user can choose (names, arguments, paths, messages that repeat them) reaches a
//! terminal with its control characters: text goes through [`escape`], JSON through [`json`]'s own
//! formatter. The one exception is a command's output, which is passed on unchanged.

mod csv;
pub(crate) mod diagnostics;
pub(crate) mod escape;
pub(crate) mod executions;
pub(crate) mod json;
pub(crate) mod quantity;
pub(crate) mod resource_usage;
pub(crate) mod running_time;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod view;
pub(crate) mod wrap;

use std::io;

use crate::failure::Failure;
use crate::stdio::unbuffered::write_all;

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_all(io::stdout(), text.as_bytes()).map_err(Failure::write)
}
