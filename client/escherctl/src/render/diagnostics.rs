//! The summary of `doctor`.

use escher_client::{Diagnostic, Severity};

use super::quantity;

/// Returns how many diagnostics there are of each severity.
pub(crate) fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| {
        diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count() as u64
    };
    let counted = |severity, noun| quantity::count(count(severity), noun);
    format!(
        "{} ok, {}, {}, {}\n",
        count(Severity::Ok),
        counted(Severity::Note, "note"),
        counted(Severity::Warning, "warning"),
        counted(Severity::Failure, "failure"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_severity_is_counted() {
        let diagnostics = [
            Diagnostic::ok("socket", "exists"),
            Diagnostic::warning("log-space", "almost full"),
        ];
        assert_eq!(
            summary(&diagnostics),
            "1 ok, 0 notes, 1 warning, 0 failures\n"
        );
    }
}
