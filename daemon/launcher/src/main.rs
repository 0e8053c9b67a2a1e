//! The launcher's program: see the library.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use escher_launcher::launcher::{self, Places};
use escher_launcher::{HELP, keeper};
use lexopt::prelude::*;
use nix::unistd::User;

enum Call {
    Run(launcher::Settings),
    Keep(keeper::Settings),
    MakeRoom,
    Print(String),
}

fn parse() -> Result<Call, Box<dyn Error>> {
    let (mut log_dir, mut state_dir, mut runtime_dir) = (None, None, None);
    let (mut keep, mut is_delegated) = (false, false);
    let (mut socket, mut escherd, mut cgroups) = (None, None, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("log-dir") => log_dir = Some(PathBuf::from(arguments.value()?)),
            Long("state-dir") => state_dir = Some(PathBuf::from(arguments.value()?)),
            Long("runtime-dir") => runtime_dir = Some(PathBuf::from(arguments.value()?)),
            Long("keep") => keep = true,
            Long("delegated") => is_delegated = true,
            Long("socket") => socket = Some(PathBuf::from(arguments.value()?)),
            Long("for") => escherd = Some(arguments.value()?.string()?),
            Long("cgroups") => cgroups = Some(PathBuf::from(arguments.value()?)),
            Long("make-room") => return Ok(Call::MakeRoom),
            Short('h') | Long("help") => return Ok(Call::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Call::Print(format!("escher-launcher {version}\n")));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if keep {
        return Ok(Call::Keep(keeper::Settings {
            socket: socket.ok_or("--socket is missing")?,
            escherd: escherd.ok_or("--for is missing")?,
            is_delegated,
        }));
    }
    let places = match (log_dir, state_dir, runtime_dir) {
        (None, None, None) => None,
        (log_dir, state_dir, runtime_dir) => Some(Places {
            log_dir: log_dir.ok_or("--log-dir is missing")?,
            state_dir: state_dir.ok_or("--state-dir is missing")?,
            runtime_dir: runtime_dir.ok_or("--runtime-dir is missing")?,
        }),
    };
    let escherd = escherd.map(|name| uid_of(&name)).transpose()?;
    Ok(Call::Run(launcher::Settings {
        places,
        escherd,
        cgroups,
    }))
}

fn uid_of(name: &str) -> Result<u32, Box<dyn Error>> {
    let user = User::from_name(name)?;
    let user = user.ok_or_else(|| format!("--for: there is no user {name}"))?;
    Ok(user.uid.as_raw())
}

fn main() -> ExitCode {
    let call = match parse() {
        Ok(call) => call,
        Err(error) => {
            return fail(
                &format!("{error}\nTry 'escher-launcher --help'."),
                ExitCode::from(2),
            );
        }
    };
    let done = match call {
        Call::Print(text) => return print(&text),
        Call::MakeRoom => keeper::make_room().map_err(|error| error.to_string()),
        Call::Keep(settings) => keeper::keep(settings).map_err(|error| error.to_string()),
        Call::Run(settings) => match launcher::control_from_stdin() {
            Ok(control) => launcher::run(&settings, control).map_err(|error| error.to_string()),
            Err(error) => Err(format!("standard input is no socket of escherd's: {error}")),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason, ExitCode::FAILURE),
    }
}

#[allow(clippy::print_stdout)] // The outermost layer talks to people.
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr)] // As above.
fn fail(reason: &str, status: ExitCode) -> ExitCode {
    eprintln!("escher-launcher: {reason}");
    status
}
