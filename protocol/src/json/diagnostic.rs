//! Diagnostics of `doctor`.

use serde::Serialize;

use super::object::line;
use crate::Diagnostic;

/// Returns the object for a diagnostic.
pub fn diagnostic(diagnostic: &Diagnostic) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        check: &'a str,
        severity: &'a str,
        message: &'a str,
        advice: Option<&'a str>,
    }
    line(&Line {
        check: &diagnostic.check,
        severity: diagnostic.severity.name(),
        message: &diagnostic.message,
        advice: diagnostic.advice.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_present() {
        assert_eq!(
            diagnostic(&Diagnostic::note("cgroups", "none")),
            "{\"check\":\"cgroups\",\"severity\":\"note\",\"message\":\"none\",\"advice\":null}\n"
        );
    }
}
