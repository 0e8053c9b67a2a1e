//! Checks of the installation: what is visible to the caller, and what escherd finds by checking
//! itself.
//!
//! One file per check. No check changes anything or fails: whatever goes wrong becomes a
//! diagnostic.

mod connection;
mod disks;
mod socket;
mod units;
mod versions;

use escher_client::{Diagnostic, Severity};
use nix::unistd::geteuid;

use crate::escherd_check::check_configuration;
use crate::socket_access;
use crate::socket_choice::{SocketChoice, SocketOrigin};

/// Runs all checks.
pub(crate) async fn run_checks(choice: &SocketChoice) -> Vec<Diagnostic> {
    let (diagnostic, permissions) = socket::check(choice);
    let mut diagnostics = vec![diagnostic];
    diagnostics.extend(permissions.map(|permissions| socket_access::check(&permissions)));
    let has_failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Failure);
    match connection::check(choice).await {
        Ok((client, diagnostic)) => {
            diagnostics.push(diagnostic);
            diagnostics.push(versions::check(&client.welcome().daemon));
            diagnostics.extend(connection::check_escherd(&client, choice).await);
        }
        Err(mut diagnostic) => {
            // The advice on the earlier failure applies.
            if has_failed {
                diagnostic.advice = None;
            }
            diagnostics.push(diagnostic);
            diagnostics.extend(check_without_escherd(choice.origin()).await);
        }
    }
    diagnostics
}

/// Checks what may keep escherd from running, if it is one whose units and files are known.
async fn check_without_escherd(origin: SocketOrigin) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if matches!(origin, SocketOrigin::System | SocketOrigin::User) {
        diagnostics.extend(units::check(origin).await);
        diagnostics.push(configuration(origin));
        diagnostics.extend(disks::check(origin));
    }
    diagnostics
}

fn configuration(origin: SocketOrigin) -> Diagnostic {
    let check = "configuration";
    if origin == SocketOrigin::System && !geteuid().is_root() {
        return Diagnostic::note(check, "only root can check whether it is valid")
            .advise("run `sudo escherctl doctor`");
    }
    match check_configuration(origin == SocketOrigin::User, None) {
        Ok(report) if report.is_valid => Diagnostic::ok(check, "valid"),
        Ok(report) => {
            let errors = report.errors().join("; ");
            let message = format!("escherd does not start with an invalid configuration: {errors}");
            Diagnostic::failure(check, message)
                .advise("correct it, then run `escherctl config check`")
        }
        Err(failure) => {
            let details = failure.details();
            let diagnostic = Diagnostic::failure("installation", details.message);
            match details.hint {
                Some(hint) => diagnostic.advise(hint),
                None => diagnostic,
            }
        }
    }
}
