//! Checks of the installation: what is visible to the caller, and what escherd finds by checking
//! itself.
//!
//! One file per check. No check changes anything or fails: whatever goes wrong becomes a
//! diagnostic.

mod connection;
mod disks;
mod escherds;
mod socket;
mod units;
mod versions;

use escher_client::{
    ConnectError, Diagnostic, EscherdSocket, Severity, SocketChoice, SocketOrigin,
};
use nix::unistd::geteuid;

use crate::escherd_check::check_configuration;
use crate::socket_access;

/// Runs all checks.
pub(crate) async fn run_checks(sockets: &SocketChoice) -> Vec<Diagnostic> {
    let connected = connection::check(sockets).await;
    let examined = match &connected {
        Ok((client, _)) => vec![client.socket().clone()],
        Err(error) => failed_sockets(sockets, error),
    };
    let mut diagnostics = Vec::new();
    diagnostics.extend(escherds::check(
        sockets,
        connected.as_ref().map(|(client, _)| client),
    ));
    for socket in &examined {
        let (diagnostic, permissions) = socket::check(socket);
        diagnostics.push(diagnostic);
        diagnostics.extend(permissions.map(|permissions| socket_access::check(&permissions)));
    }
    let has_failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Failure);
    match connected {
        Ok((client, diagnostic)) => {
            diagnostics.push(diagnostic);
            let daemon = client.welcome().daemon;
            diagnostics.push(versions::check(&daemon, client.socket().path()));
            diagnostics.extend(connection::check_escherd(&client).await);
        }
        Err(error) => {
            let mut diagnostic = connection::failure(error);
            // The advice on the earlier failure applies.
            if has_failed {
                diagnostic.advice = None;
            }
            diagnostics.push(diagnostic);
            for socket in &examined {
                diagnostics.extend(check_without_escherd(socket).await);
            }
        }
    }
    diagnostics
}

/// Returns the sockets that `error` is about, without that of an escherd of one's own that has never been
/// there.
fn failed_sockets(sockets: &SocketChoice, error: &ConnectError) -> Vec<EscherdSocket> {
    let both = [Some(sockets.preferred()), sockets.alternative()];
    let both = both.into_iter().flatten();
    let is_meant = |socket: &&EscherdSocket| match error {
        ConnectError::NeitherUsable { .. } => {
            socket.origin() != SocketOrigin::User
                || socket.path().exists()
                || disks::user_state_dir().is_some_and(|directory| directory.exists())
        }
        error => error.path() == socket.path(),
    };
    both.filter(is_meant).cloned().collect()
}

/// Checks what may keep escherd from running, if it is one whose units and files are known.
async fn check_without_escherd(socket: &EscherdSocket) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let origin = socket.origin();
    if matches!(origin, SocketOrigin::System | SocketOrigin::User) {
        diagnostics.extend(units::check(socket).await);
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
            let option = match origin {
                SocketOrigin::User => " --user",
                _ => "",
            };
            Diagnostic::failure(check, message).advise(format!(
                "correct it, then run `escherctl config check{option}`"
            ))
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
