//! The state of escher's systemd units, where escherd does not answer.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use escher_client::{Diagnostic, EscherdSocket, SocketOrigin};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::escherds::systemctl_option;

const CHECK: &str = "units";

/// Exists if systemd is the init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(5);

/// The system's units. The escherd of a user has a launcher of its own.
const SYSTEM_UNITS: &[&str] = &[
    "escherd.socket",
    "escherd.service",
    "escher-launcher.service",
];
const USER_UNITS: &[&str] = &["escherd.socket", "escherd.service"];

/// Checks the system's units, or those of the user's service manager. Returns nothing where there is
/// no systemd.
pub(super) async fn check(socket: &EscherdSocket) -> Vec<Diagnostic> {
    if !Path::new(BOOTED).is_dir() {
        return Vec::new();
    }
    let mut systemctl = Command::new("systemctl");
    let mut units = SYSTEM_UNITS;
    if socket.origin() == SocketOrigin::User {
        systemctl.arg("--user");
        units = USER_UNITS;
    }
    systemctl
        .args(["show", "--property=Id,LoadState,ActiveState,Result"])
        .args(units);
    match output_of(systemctl).await {
        Ok(Some(output)) => diagnose(&output, systemctl_option(socket.path())),
        Ok(None) => vec![Diagnostic::warning(CHECK, "systemctl does not respond")],
        Err(error) => vec![Diagnostic::note(CHECK, format!("systemctl: {error}"))],
    }
}

/// Returns what the program prints; `None` if it takes too long, and is killed.
async fn output_of(mut program: Command) -> io::Result<Option<String>> {
    let mut process = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = Vec::new();
    let read = match process.stdout.take() {
        Some(stdout) => {
            let mut stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
            tokio::time::timeout(SYSTEMCTL_TIMEOUT, stdout.read_to_end(&mut output)).await
        }
        None => Ok(Ok(0)),
    };
    if read.is_err() {
        process.kill()?;
    }
    process.wait()?;
    match read {
        Ok(read) => read.map(|_| Some(String::from_utf8_lossy(&output).into_owned())),
        Err(_) => Ok(None),
    }
}

/// Reads the output of `systemctl show`, which has a paragraph of `NAME=VALUE` per unit. `option`
/// is what systemd's programs take for this service manager: ` --user` or nothing.
fn diagnose(output: &str, option: &str) -> Vec<Diagnostic> {
    let mut diagnostics: Vec<Diagnostic> = output
        .split("\n\n")
        .filter_map(|paragraph| diagnose_unit(paragraph, option))
        .collect();
    if diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::warning(
                CHECK,
                format!("`systemctl{option}` knows no unit of escher"),
            )
            .advise("install the package, or run `escherd` (or `escherd --user`) yourself"),
        );
    }
    diagnostics
}

fn diagnose_unit(paragraph: &str, option: &str) -> Option<Diagnostic> {
    let properties: HashMap<&str, &str> = paragraph
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let property = |name| properties.get(name).copied().unwrap_or_default();
    let unit = property("Id");
    match (property("LoadState"), property("ActiveState")) {
        ("masked", _) => {
            let diagnostic = Diagnostic::failure(CHECK, format!("{unit} is masked"));
            Some(diagnostic.advise(format!("run `systemctl{option} unmask {unit}`")))
        }
        ("loaded", "failed") => {
            let result = property("Result");
            let diagnostic = Diagnostic::failure(CHECK, format!("{unit} has failed: {result}"));
            Some(diagnostic.advise(format!(
                "see `journalctl{option} -u {unit}`, then run `systemctl{option} restart {unit}`"
            )))
        }
        ("loaded", "inactive") => {
            let diagnostic = Diagnostic::warning(CHECK, format!("{unit} is inactive"));
            Some(diagnostic.advise(format!("run `systemctl{option} enable --now {unit}`")))
        }
        ("loaded", state) => Some(Diagnostic::ok(CHECK, format!("{unit} is {state}"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Severity;

    #[test]
    fn the_severity_depends_on_the_state_of_the_unit() {
        let output = "Result=success\nId=escherd.socket\nLoadState=loaded\nActiveState=active\n\n\
                    Result=exit-code\nId=escherd.service\nLoadState=loaded\nActiveState=failed\n\n\
                    Result=success\nId=escher-launcher.service\nLoadState=loaded\nActiveState=inactive\n\n\
                    Result=success\nId=other.service\nLoadState=masked\nActiveState=inactive\n";
        let diagnostics = diagnose(output, "");
        let severities: Vec<Severity> = diagnostics
            .iter()
            .map(|diagnostic| diagnostic.severity)
            .collect();
        assert_eq!(
            severities,
            [
                Severity::Ok,
                Severity::Failure,
                Severity::Warning,
                Severity::Failure
            ]
        );
        let messages: Vec<&str> = diagnostics.iter().map(|found| &*found.message).collect();
        assert_eq!(
            messages,
            [
                "escherd.socket is active",
                "escherd.service has failed: exit-code",
                "escher-launcher.service is inactive",
                "other.service is masked"
            ]
        );
    }

    #[test]
    fn missing_units_are_one_warning() {
        let output = "Id=escherd.socket\nLoadState=not-found\nActiveState=inactive\n\n\
                    Id=escherd.service\nLoadState=not-found\nActiveState=inactive\n";
        let diagnostics = diagnose(output, " --user");
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].severity, Severity::Warning);
        assert_eq!(
            &*diagnostics[0].message,
            "`systemctl --user` knows no unit of escher"
        );
    }
}
