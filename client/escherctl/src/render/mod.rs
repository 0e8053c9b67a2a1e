//! Answers as people and programs read them.
//!
//! Nothing that a user can choose (names, arguments, paths, messages that repeat them) reaches a
//! terminal with its control characters: text goes through [`escape`], JSON through [`json`]'s own
//! writer. The one exception is a command's output, which is passed on as it is.

pub(crate) mod diagnostics;
pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod resources;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;

use std::io::{self, Write};

use super::failure::Failure;

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Failure::write)
}
