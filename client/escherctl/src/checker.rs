//! escherd's program, which judges configurations.
//!
//! Not the escherd that runs: there may be none, and what is to be known is whether it would start.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::failure::Failure;

/// Where escherd is when it is not beside escherctl.
const INSTALLED: &str = "/usr/bin/escherd";

/// escherd's exit status for a configuration with faults.
const FAULTY: i32 = 2;

/// What escherd's program says of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Whether it would start with it.
    pub(crate) is_valid: bool,
    /// What it has to say, line by line: all faults, or warnings.
    pub(crate) said: Vec<String>,
}

impl Judgement {
    /// The faults, if there are any.
    pub(crate) fn faults(&self) -> Vec<&str> {
        if self.is_valid {
            Vec::new()
        } else {
            self.said.iter().map(|line| fault(line)).collect()
        }
    }
}

/// Has escherd's program judge `file`, or what it would read by itself, as the user's own with `user`.
///
/// # Errors
/// When it is not installed, cannot be started, or says what makes no sense.
pub(crate) fn judge(user: bool, file: Option<&Path>) -> Result<Judgement, Failure> {
    let this = std::env::current_exe()
        .map_err(|error| Failure::system("cannot tell where escherctl is", error))?;
    let escherd = find(this.with_file_name("escherd"), Path::is_file)?;
    let checked = Command::new(&escherd)
        .args(arguments(user, file))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::system(format!("cannot start {}", escherd.display()), error))?;
    let said = String::from_utf8_lossy(&checked.stderr);
    let is_valid = match checked.status.code() {
        Some(0) => true,
        Some(FAULTY) => false,
        _ => {
            let what = format!("{} could not check it", escherd.display());
            let mut why = checked.status.to_string();
            for line in said.lines() {
                why = why + "; " + line;
            }
            return Err(Failure::system(what, io::Error::other(why)));
        }
    };
    Ok(Judgement {
        is_valid,
        said: said.lines().map(str::to_owned).collect(),
    })
}

fn arguments(user: bool, file: Option<&Path>) -> Vec<OsString> {
    let mut arguments = vec!["--check".into()];
    if user {
        arguments.push("--user".into());
    }
    if let Some(file) = file {
        // In one word, so that a name that begins with a dash is taken for a name.
        let mut word = OsString::from("--config=");
        word.push(file);
        arguments.push(word);
    }
    arguments
}

/// A line of escherd's without its name.
fn fault(line: &str) -> &str {
    line.strip_prefix("escherd: ").unwrap_or(line)
}

/// The escherd `beside` escherctl, else the one that is installed.
fn find(beside: PathBuf, is_there: impl Fn(&Path) -> bool) -> Result<PathBuf, Failure> {
    let places = [beside, PathBuf::from(INSTALLED)];
    match places.iter().find(|place| is_there(place)) {
        Some(place) => Ok(place.clone()),
        None => Err(Failure::NotInstalled { places }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escherd_of_the_same_build_comes_before_the_installed_one() {
        let beside = || PathBuf::from("/b/escherd");
        assert_eq!(find(beside(), |_| true).unwrap(), beside());
        let installed = find(beside(), |place| place != beside()).unwrap();
        assert_eq!(installed, Path::new(INSTALLED));
        let described = find(beside(), |_| false).unwrap_err().describe();
        assert!(
            described.message.contains("/b/escherd") && described.message.contains(INSTALLED),
            "{described:?}"
        );
    }

    #[test]
    fn escherd_is_asked_about_the_file_as_it_is_named() {
        assert_eq!(arguments(false, None), ["--check"]);
        assert_eq!(
            arguments(true, Some(Path::new("-x.toml"))),
            ["--check", "--user", "--config=-x.toml"]
        );
    }
}
