//! Whether escherctl and escherd are of the same release.

use std::path::Path;

use escher_client::Diagnostic;

use crate::escherds::systemctl_option;

/// escherctl's own release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks `daemon`, the name and release of the escherd at `socket`: `escherd 0.1.0`.
pub(super) fn check(daemon: &str, socket: &Path) -> Diagnostic {
    let check = "versions";
    if daemon.strip_prefix("escherd ") == Some(VERSION) {
        return Diagnostic::ok(check, format!("escherctl and escherd are both {VERSION}"));
    }
    let message = format!("escherctl is {VERSION}, but {daemon} is running");
    let option = systemctl_option(socket);
    Diagnostic::warning(check, message).advise(format!(
        "after an upgrade, run `systemctl{option} restart escherd`, which commands survive; else \
         install the same release of both"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::{EscherdSocket, Severity};

    #[test]
    fn warns_of_another_release() {
        let check = |daemon: &str| check(daemon, EscherdSocket::user().path());
        let same = check(concat!("escherd ", env!("CARGO_PKG_VERSION")));
        assert_eq!(same.severity, Severity::Ok);
        let other = check("escherd 9.9.9");
        assert_eq!(other.severity, Severity::Warning);
        assert!(other.message.contains("9.9.9") && other.message.contains(VERSION));
        assert!(other.advice.unwrap().contains("systemctl --user restart"));
    }
}
