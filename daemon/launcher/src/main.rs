//! The launcher's program: see the library.

use std::path::PathBuf;
use std::process::ExitCode;

use escher_launcher::HELP;
use escher_launcher::launcher::{self, Settings};
use lexopt::prelude::*;

enum Call {
    Run(Settings),
    Print(String),
}

fn parse() -> Result<Call, lexopt::Error> {
    let (mut log_dir, mut state_dir, mut runtime_dir) = (None, None, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("log-dir") => log_dir = Some(PathBuf::from(arguments.value()?)),
            Long("state-dir") => state_dir = Some(PathBuf::from(arguments.value()?)),
            Long("runtime-dir") => runtime_dir = Some(PathBuf::from(arguments.value()?)),
            Short('h') | Long("help") => return Ok(Call::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Call::Print(format!("escher-launcher {version}\n")));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Call::Run(Settings {
        log_dir: log_dir.ok_or("--log-dir is missing")?,
        state_dir: state_dir.ok_or("--state-dir is missing")?,
        runtime_dir: runtime_dir.ok_or("--runtime-dir is missing")?,
    }))
}

#[allow(clippy::print_stdout, clippy::print_stderr)] // The outermost layer talks to people.
fn main() -> ExitCode {
    let settings = match parse() {
        Ok(Call::Run(settings)) => settings,
        Ok(Call::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("escher-launcher: {error}\nTry 'escher-launcher --help'.");
            return ExitCode::from(2);
        }
    };
    let control = match launcher::control_socket_from_stdin() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("escher-launcher: standard input is no socket of escherd's: {error}");
            return ExitCode::FAILURE;
        }
    };
    match launcher::run(&settings, control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escher-launcher: {error}");
            ExitCode::FAILURE
        }
    }
}
