//! What systemd says of escher's units, where escherd does not answer.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use escher_client::Diagnostic;
use tokio::process::Command;

const CHECK: &str = "units";

/// Is there where systemd runs the host (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// How long systemctl may take.
const PATIENCE: Duration = Duration::from_secs(5);

const UNITS: [&str; 3] = [
    "escherd.socket",
    "escherd.service",
    "escher-launcher.service",
];

/// `user`: of the user's own systemd. Without systemd there is nothing to find.
pub(super) async fn examine(user: bool) -> Vec<Diagnostic> {
    if !Path::new(BOOTED).is_dir() {
        return Vec::new();
    }
    let mut systemctl = Command::new("systemctl");
    if user {
        systemctl.arg("--user");
    }
    systemctl
        .args(["show", "--property=Id,LoadState,ActiveState,Result"])
        .args(UNITS)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let said = match tokio::time::timeout(PATIENCE, systemctl.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(error)) => return vec![Diagnostic::note(CHECK, format!("systemctl: {error}"))],
        Err(_) => return vec![Diagnostic::warning(CHECK, "systemctl does not answer")],
    };
    judge(&said, if user { " --user" } else { "" })
}

/// Units come as paragraphs of `NAME=VALUE`. `user` is what programs of systemd are told to mean the user's.
fn judge(said: &str, user: &str) -> Vec<Diagnostic> {
    let mut diagnostics: Vec<Diagnostic> = said
        .split("\n\n")
        .filter_map(|paragraph| judge_unit(paragraph, user))
        .collect();
    if diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::warning(CHECK, "systemd has no units of escher")
                .advise("install the package, or start `escherd` by hand"),
        );
    }
    diagnostics
}

fn judge_unit(paragraph: &str, user: &str) -> Option<Diagnostic> {
    let properties: HashMap<&str, &str> = paragraph
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let property = |name| properties.get(name).copied().unwrap_or_default();
    let unit = property("Id");
    match (property("LoadState"), property("ActiveState")) {
        ("masked", _) => {
            let diagnostic = Diagnostic::failure(CHECK, format!("{unit} is masked"));
            Some(diagnostic.advise(format!("`systemctl{user} unmask {unit}`")))
        }
        ("loaded", "failed") => {
            let result = property("Result");
            let diagnostic = Diagnostic::failure(CHECK, format!("{unit} has failed: {result}"));
            Some(diagnostic.advise(format!(
                "`journalctl{user} -u {unit}` says why; then `systemctl{user} restart {unit}`"
            )))
        }
        ("loaded", "inactive") => {
            let diagnostic = Diagnostic::warning(CHECK, format!("{unit} is not started"));
            Some(diagnostic.advise(format!("`systemctl{user} enable --now {unit}`")))
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
    fn each_unit_is_judged_by_its_state() {
        let said = "Result=success\nId=escherd.socket\nLoadState=loaded\nActiveState=active\n\n\
                    Result=exit-code\nId=escherd.service\nLoadState=loaded\nActiveState=failed\n\n\
                    Result=success\nId=escher-launcher.service\nLoadState=loaded\nActiveState=inactive\n";
        let diagnostics = judge(said, "");
        let verdicts: Vec<Severity> = diagnostics
            .iter()
            .map(|diagnostic| diagnostic.severity)
            .collect();
        assert_eq!(
            verdicts,
            [Severity::Ok, Severity::Failure, Severity::Warning]
        );
        assert!(
            diagnostics[1]
                .message
                .contains("escherd.service has failed: exit-code")
        );
    }

    #[test]
    fn units_that_are_not_there_are_told_once() {
        let said = "Id=escherd.socket\nLoadState=not-found\nActiveState=inactive\n\n\
                    Id=escherd.service\nLoadState=not-found\nActiveState=inactive\n";
        let diagnostics = judge(said, " --user");
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].severity, Severity::Warning);
    }
}
