//! The environment of a command: what it inherits from the caller, and what options add.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use escher_client::Blob;
use nix::sys::stat::{self, Mode};

use super::values::EnvironmentEntry;
use crate::failure::Failure;

/// Variables that belong to the caller as a service of systemd (systemd.exec(5)), or to its shell.
const OWN: [&str; 12] = [
    "NOTIFY_SOCKET",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "OLDPWD",
    "_",
];

/// Beginnings of the names of such variables, and of escher's.
const OWN_PREFIXES: [&str; 3] = ["WATCHDOG_", "LISTEN_", "ESCHER_"];

/// Returns the caller's environment for a command in this directory.
pub(super) fn inherited(directory: &Path) -> Vec<(Blob, Blob)> {
    let of_caller = std::env::vars_os().filter(|(name, value)| is_inherited(name, value));
    let directory = ("PWD".into(), directory.as_os_str().to_owned());
    of_caller
        .chain([directory])
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn is_inherited(name: &OsStr, value: &OsStr) -> bool {
    let is = |known: &&str| name == OsStr::new(*known);
    let begins = |prefix: &&str| name.as_bytes().starts_with(prefix.as_bytes());
    // Descriptors of make(1), which the command does not have.
    let has_job_server = ["MAKEFLAGS", "MFLAGS"].iter().any(is)
        && value
            .as_bytes()
            .windows(11)
            .any(|word| word == b"--jobserver");
    // It is that of the command's own directory.
    let is_directory = is(&"PWD");
    !(OWN.iter().any(is) || OWN_PREFIXES.iter().any(begins) || has_job_server || is_directory)
}

/// Returns the variables of files with a variable in each line, and of options.
pub(super) fn set(
    files: &[PathBuf],
    options: Vec<EnvironmentEntry>,
) -> Result<Vec<(Blob, Blob)>, Failure> {
    let mut entries = Vec::new();
    for path in files {
        entries.extend(read_file(path)?);
    }
    entries.extend(options);
    let resolved = entries.into_iter().filter_map(EnvironmentEntry::resolve);
    Ok(resolved
        .map(|(name, value)| (name.into(), value.into()))
        .collect())
}

/// Reads lines as `-e` takes them. Empty lines and those that begin with `#` are skipped.
fn read_file(path: &Path) -> Result<Vec<EnvironmentEntry>, Failure> {
    let unreadable = |error| Failure::system(format!("cannot read {}", path.display()), error);
    let text = fs::read(path).map_err(unreadable)?;
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
    let parse = |(index, line): (usize, &[u8])| {
        let entry = EnvironmentEntry::parse(OsString::from_vec(line.to_vec()));
        entry.map_err(|error| {
            let message = format!("{}, line {}: {error}", path.display(), index + 1);
            Failure::usage(message, Some("each line of the file is NAME=VALUE or NAME"))
        })
    };
    lines.map(parse).collect()
}

/// Returns the caller's umask. umask(2) tells it only by setting another one: for that moment files are created for their
/// owner alone.
pub(super) fn umask() -> u32 {
    static IS_CHANGED: Mutex<()> = Mutex::new(());
    let _guard = IS_CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    let umask = stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
    stat::umask(umask);
    umask.bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_caller_alone_is_not_inherited() {
        let is_inherited = |variable: &str| {
            let (name, value) = variable.split_once('=').unwrap();
            is_inherited(OsStr::new(name), OsStr::new(value))
        };
        for variable in [
            "NOTIFY_SOCKET=/run/x",
            "WATCHDOG_USEC=1",
            "LISTEN_FDS=1",
            "STATE_DIRECTORY=/var/lib/x",
            "ESCHER_SOCKET=/run/x",
            "MAKEFLAGS= -j4 --jobserver-auth=3,4",
            "MFLAGS=--jobserver-fds=3,4",
            "_=/bin/sh",
            "OLDPWD=/",
            "PWD=/",
        ] {
            assert!(!is_inherited(variable), "{variable}");
        }
        for variable in [
            "PATH=/bin",
            "HOME=/home/alice",
            "MAKEFLAGS=-k",
            "XDG_STATE_DIRECTORY=/x",
            "_X=",
            "LISTEN=1",
        ] {
            assert!(is_inherited(variable), "{variable}");
        }
    }

    #[test]
    fn a_file_has_a_variable_in_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        fs::write(&path, "A=1\n\n# comment\nB=x = y\nESCHER_TEST_NO_SUCH\n").unwrap();
        let options = vec![EnvironmentEntry::parse("A=2".into()).unwrap()];
        let expected: Vec<(Blob, Blob)> = [("A", "1"), ("B", "x = y"), ("A", "2")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        assert_eq!(set(std::slice::from_ref(&path), options).unwrap(), expected);
        fs::write(&path, "A=1\n=2\n").unwrap();
        let details = set(&[path], Vec::new()).unwrap_err().details();
        assert!(details.message.contains("line 2"), "{details:?}");
        let details = set(&[dir.path().join("none")], Vec::new())
            .unwrap_err()
            .details();
        assert!(details.message.starts_with("cannot read"), "{details:?}");
    }

    #[test]
    fn the_umask_is_that_of_this_process() {
        let umask = umask();
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("file")).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o666 & !umask);
    }
}
