//! escherctl: escher for people and scripts. See [`cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use escher_client::cli;

fn main() -> ExitCode {
    cli::main(&std::env::args_os().collect::<Vec<_>>())
}
