//! A pager for long output at a terminal, as git and journalctl use it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;

use crate::failure::Failure;

const PAGER_VARIABLE: &str = "PAGER";
const DEFAULT_PAGER: &str = "less";

/// What less does where `LESS` does not say: it exits at once if everything fits on the screen (F), keeps colours (R), and
/// leaves on the screen what it has shown (X).
const LESS_OPTIONS: &str = "FRX";

/// The status of a shell that has not found a program.
const NOT_FOUND: i32 = 127;
/// The status of a shell that may not execute it.
const NOT_EXECUTABLE: i32 = 126;

/// The pager to use, as a shell reads it.
pub(crate) struct PagerCommand(OsString);

impl PagerCommand {
    /// Returns what `PAGER` names, else less if that is installed; `None` where standard output is no terminal, or no
    /// pager is wanted.
    pub(crate) fn find() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        match std::env::var_os(PAGER_VARIABLE) {
            Some(command) if command.is_empty() || command == "cat" => None,
            Some(command) => Some(PagerCommand(command)),
            None => is_installed(DEFAULT_PAGER).then(|| PagerCommand(DEFAULT_PAGER.into())),
        }
    }
}

/// A running pager.
pub(crate) struct Pager {
    process: Child,
    command: PagerCommand,
}

impl Pager {
    /// Starts a pager. Returns it with its input.
    pub(crate) fn start(command: PagerCommand) -> Result<(Self, File), Failure> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(&command.0).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            shell.env("LESS", LESS_OPTIONS);
        }
        let cannot_start = |error| Failure::system("cannot start the pager", error);
        let mut process = shell.spawn().map_err(cannot_start)?;
        let input = process.stdin.take().map(OwnedFd::from).map(File::from);
        let input = input.ok_or_else(|| cannot_start(io::ErrorKind::BrokenPipe.into()))?;
        Ok((Pager { process, command }, input))
    }

    /// Waits until it is quit. Its input must be closed, or it waits for more.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        let status = self
            .process
            .wait()
            .map_err(|error| Failure::system("cannot wait for the pager", error))?;
        let error = match status.code() {
            Some(NOT_FOUND) => Errno::ENOENT,
            Some(NOT_EXECUTABLE) => Errno::EACCES,
            _ => return Ok(()),
        };
        let command = self.command.0.to_string_lossy();
        Err(Failure::system(
            format!("cannot start the pager {command}"),
            error.into(),
        ))
    }
}

fn is_installed(program: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|directory| {
        let metadata = directory.join(program).metadata();
        metadata.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}
