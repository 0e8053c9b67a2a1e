//! `config check`: what is wrong with a configuration.
//!
//! The one who says so is escherd's program, not the escherd that runs: there may be none, and what is to be
//! known is whether it would start.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Context;
use crate::cli::args::ConfigCheckArgs;
use crate::cli::exit_status::REFUSED;
use crate::cli::failure::Failure;
use crate::cli::render::{escape, json, print};

/// Where escherd is when it is not beside escherctl.
const INSTALLED: &str = "/usr/bin/escherd";

/// escherd's exit status for a configuration with faults.
const FAULTY: i32 = 2;

pub(super) fn check(context: &Context, args: &ConfigCheckArgs) -> Result<u8, Failure> {
    let this = std::env::current_exe()
        .map_err(|error| Failure::system("cannot tell where escherctl is", error))?;
    let escherd = find(this.with_file_name("escherd"), Path::is_file)?;
    let checked = Command::new(&escherd)
        .args(arguments(args))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::system(format!("cannot start {}", escherd.display()), error))?;
    let said = String::from_utf8_lossy(&checked.stderr);
    let valid = match checked.status.code() {
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
    let file = args.file.as_deref();
    if context.json {
        let faults = if valid {
            Vec::new()
        } else {
            said.lines().map(fault).collect()
        };
        print(&json::checked(file, valid, &faults))?;
    } else {
        for line in said.lines() {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "{}", escape::text(line));
        }
        if valid && !context.quiet {
            let what = file.map_or("the configuration".into(), |file| file.to_string_lossy());
            print(&format!("{} is right\n", escape::text(&what)))?;
        }
    }
    Ok(if valid { 0 } else { REFUSED })
}

fn arguments(args: &ConfigCheckArgs) -> Vec<OsString> {
    let mut arguments = vec!["--check".into()];
    if args.user {
        arguments.push("--user".into());
    }
    if let Some(file) = &args.file {
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
        let of = |user, file: Option<&str>| {
            arguments(&ConfigCheckArgs {
                user,
                file: file.map(PathBuf::from),
            })
        };
        assert_eq!(of(false, None), ["--check"]);
        assert_eq!(
            of(true, Some("-x.toml")),
            ["--check", "--user", "--config=-x.toml"]
        );
    }
}
