//! Whether escherctl and escherd are of the same release.

use escher_client::Diagnostic;

/// escherctl's own release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks `daemon`, escherd's name and release: `escherd 0.1.0`.
pub(super) fn check(daemon: &str) -> Diagnostic {
    let check = "versions";
    if daemon.strip_prefix("escherd ") == Some(VERSION) {
        return Diagnostic::ok(check, format!("escherctl and escherd are both {VERSION}"));
    }
    let message = format!("escherctl is {VERSION}, but {daemon} is running");
    Diagnostic::warning(check, message).advise(
        "after an upgrade, run `systemctl restart escherd`, which commands survive; else install \
         the same release of both",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Severity;

    #[test]
    fn warns_of_another_release() {
        let same = check(concat!("escherd ", env!("CARGO_PKG_VERSION")));
        assert_eq!(same.severity, Severity::Ok);
        let other = check("escherd 9.9.9");
        assert_eq!(other.severity, Severity::Warning);
        assert!(other.message.contains("9.9.9") && other.message.contains(VERSION));
    }
}
