//! escherctl: escher for people and scripts.
//!
//! Thin: [`cli`] reads the arguments, asks escherd through the client library, and shows the answers.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
