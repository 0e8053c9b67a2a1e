//! Whether escherctl and escherd are of the same release.

use escher_client::Diagnostic;

/// This program's release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `daemon` is what escherd calls itself: `escherd 0.1.0`.
pub(super) fn versions(daemon: &str) -> Diagnostic {
    let check = "versions";
    match daemon.strip_prefix("escherd ") {
        Some(VERSION) => Diagnostic::ok(check, format!("escherctl and escherd are both {VERSION}")),
        _ => Diagnostic::warning(check, format!("escherctl is {VERSION}, and there runs {daemon}")).advise(
            "after an upgrade `systemctl restart escherd`, with which commands go on; else install the same release \
             of both",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Severity;

    #[test]
    fn another_release_is_told() {
        let same = versions(concat!("escherd ", env!("CARGO_PKG_VERSION")));
        assert_eq!(same.severity, Severity::Ok);
        let other = versions("escherd 9.9.9");
        assert_eq!(other.severity, Severity::Warning);
        assert!(other.message.contains("9.9.9") && other.message.contains(VERSION));
    }
}
