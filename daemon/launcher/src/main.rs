//! The program of launcher and keeper: see the library.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use escher_launcher::ipc::wire::Directories;
use escher_launcher::os::kernel_support::ensure_supported;
use escher_launcher::{HELP, WipingAllocator, keeper, launcher};
use escher_protocol::Blob;
use lexopt::prelude::*;
use nix::unistd::User;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

enum Mode {
    Launch(launcher::LauncherOptions),
    Keep(keeper::KeeperOptions),
    ReleaseControllers,
    Print(String),
}

fn parse() -> Result<Mode, Box<dyn Error>> {
    let (mut log_dir, mut state_dir, mut runtime_dir) = (None, None, None);
    let (mut keep, mut is_delegated) = (false, false);
    let (mut socket, mut escherd_user, mut cgroups) = (None, None, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("log-dir") => log_dir = Some(arguments.value()?),
            Long("state-dir") => state_dir = Some(arguments.value()?),
            Long("runtime-dir") => runtime_dir = Some(arguments.value()?),
            Long("keep") => keep = true,
            Long("delegated") => is_delegated = true,
            Long("socket") => socket = Some(PathBuf::from(arguments.value()?)),
            Long("for") => escherd_user = Some(arguments.value()?.string()?),
            Long("cgroups") => cgroups = Some(PathBuf::from(arguments.value()?)),
            Long("release-controllers") => return Ok(Mode::ReleaseControllers),
            Short('h') | Long("help") => return Ok(Mode::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Mode::Print(format!("escher-launcher {version}\n")));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let directories = Directories {
        log_dir: blob(log_dir.ok_or("--log-dir is missing")?),
        state_dir: blob(state_dir.ok_or("--state-dir is missing")?),
        runtime_dir: blob(runtime_dir.ok_or("--runtime-dir is missing")?),
    };
    if keep {
        return Ok(Mode::Keep(keeper::KeeperOptions {
            socket: socket.ok_or("--socket is missing")?,
            escherd_user: escherd_user.ok_or("--for is missing")?,
            directories,
            is_delegated,
        }));
    }
    let escherd_uid = escherd_user.map(|name| uid_of(&name)).transpose()?;
    Ok(Mode::Launch(launcher::LauncherOptions {
        directories,
        escherd_uid,
        cgroups,
    }))
}

fn blob(path: OsString) -> Blob {
    path.as_os_str().into()
}

fn uid_of(name: &str) -> Result<u32, Box<dyn Error>> {
    let user = User::from_name(name)?;
    let user = user.ok_or_else(|| format!("--for: user {name} does not exist"))?;
    Ok(user.uid.as_raw())
}

fn main() -> ExitCode {
    let mode = match parse() {
        Ok(mode) => mode,
        Err(error) => {
            return fail(
                &format!("{error}\nTry 'escher-launcher --help'."),
                ExitCode::from(2),
            );
        }
    };
    let result = match mode {
        Mode::Print(text) => return print(&text),
        Mode::ReleaseControllers => {
            keeper::release_controllers().map_err(|error| error.to_string())
        }
        Mode::Keep(options) => ensure_supported()
            .map_err(|error| error.to_string())
            .and_then(|()| keeper::keep(options).map_err(|error| error.to_string())),
        Mode::Launch(options) => launch(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason, ExitCode::FAILURE),
    }
}

fn launch(options: &launcher::LauncherOptions) -> Result<(), String> {
    ensure_supported().map_err(|error| error.to_string())?;
    // SAFETY: so far this process has left nothing open.
    let control = unsafe { launcher::control_from_stdin() }
        .map_err(|error| format!("cannot take standard input, a socket to escherd: {error}"))?;
    launcher::run(options, control).map_err(|error| error.to_string())
}

#[allow(clippy::print_stdout)] // The program's output.
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr)] // The program's errors.
fn fail(reason: &str, status: ExitCode) -> ExitCode {
    eprintln!("escher-launcher: {reason}");
    status
}
