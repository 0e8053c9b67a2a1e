//! escherctl, the command-line client of escherd.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    escherctl::main(&std::env::args_os().collect::<Vec<_>>())
}
