//! Has the program escherd check a configuration (`escherd --check`).
//!
//! Not the escherd that is running: there may be none, and the question is whether one would start.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// Where escherd is installed, if it is not beside escherctl.
const INSTALLED: &str = "/usr/bin/escherd";

/// escherd's exit status for an invalid configuration.
const INVALID_CONFIGURATION: i32 = 2;

/// What `escherd --check` has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckReport {
    /// Whether escherd would start with the configuration.
    pub(crate) is_valid: bool,
    /// The lines that it printed: all errors, or warnings.
    pub(crate) lines: Vec<String>,
}

impl CheckReport {
    /// Returns the errors, without escherd's name before them.
    pub(crate) fn errors(&self) -> Vec<&str> {
        if self.is_valid {
            return Vec::new();
        }
        let without_name = |line| str::strip_prefix(line, "escherd: ").unwrap_or(line);
        self.lines.iter().map(|line| without_name(line)).collect()
    }
}

/// Checks `file`, else what escherd would read by default, with `user` what `escherd --user` would.
///
/// # Errors
/// When escherd is not installed, cannot be started, or exits with an unexpected status.
pub(crate) fn check_configuration(user: bool, file: Option<&Path>) -> Result<CheckReport, Failure> {
    let escherctl = std::env::current_exe()
        .map_err(|error| Failure::system("cannot determine the path of escherctl", error))?;
    let escherd = find_escherd(escherctl.with_file_name("escherd"), Path::is_file)?;
    let output = Command::new(&escherd)
        .args(arguments(user, file))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::system(format!("cannot start {}", escherd.display()), error))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let is_valid = match output.status.code() {
        Some(0) => true,
        Some(INVALID_CONFIGURATION) => false,
        _ => {
            let action = format!("cannot check the configuration with {}", escherd.display());
            let mut reason = output.status.to_string();
            for line in stderr.lines() {
                reason = reason + "; " + line;
            }
            return Err(Failure::system(action, io::Error::other(reason)));
        }
    };
    Ok(CheckReport {
        is_valid,
        lines: stderr.lines().map(str::to_owned).collect(),
    })
}

fn arguments(user: bool, file: Option<&Path>) -> Vec<OsString> {
    let mut arguments = vec!["--check".into()];
    if user {
        arguments.push("--user".into());
    }
    if let Some(file) = file {
        // One argument, so that a file name that begins with a dash is not taken for an option.
        let mut config = OsString::from("--config=");
        config.push(file);
        arguments.push(config);
    }
    arguments
}

/// Returns the escherd `beside` escherctl, which is of the same build, else the installed one.
fn find_escherd(beside: PathBuf, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, Failure> {
    let searched = [beside, PathBuf::from(INSTALLED)];
    match searched.iter().find(|path| exists(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(Failure::NotInstalled { searched }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_escherd_beside_escherctl_to_the_installed_one() {
        let beside = || PathBuf::from("/b/escherd");
        assert_eq!(find_escherd(beside(), |_| true).unwrap(), beside());
        let installed = find_escherd(beside(), |path| path != beside()).unwrap();
        assert_eq!(installed, Path::new(INSTALLED));
        let details = find_escherd(beside(), |_| false).unwrap_err().details();
        assert!(
            details.message.contains("/b/escherd") && details.message.contains(INSTALLED),
            "{details:?}"
        );
    }

    #[test]
    fn a_file_name_that_begins_with_a_dash_is_no_option() {
        assert_eq!(arguments(false, None), ["--check"]);
        assert_eq!(
            arguments(true, Some(Path::new("-x.toml"))),
            ["--check", "--user", "--config=-x.toml"]
        );
    }
}
