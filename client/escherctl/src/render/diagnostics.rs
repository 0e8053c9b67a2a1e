//! Diagnostics of `doctor` as text.

use escher_client::{Diagnostic, Severity};

use super::{escape, quantity};

/// Column widths: the longest severity and almost every check fit, with two spaces after them.
const SEVERITY_WIDTH: usize = 9;
const CHECK_WIDTH: usize = 19;

/// Returns one line each, with the advice indented below.
pub(crate) fn list(diagnostics: &[&Diagnostic]) -> String {
    let line = |diagnostic: &&Diagnostic| {
        let mut line = format!(
            "{:<SEVERITY_WIDTH$}{:<CHECK_WIDTH$}{}\n",
            diagnostic.severity.name(),
            // Comes from escherd, which may be of another version.
            escape::text(&diagnostic.check),
            escape::text(&diagnostic.message),
        );
        if let Some(advice) = &diagnostic.advice {
            line.push_str(&" ".repeat(SEVERITY_WIDTH + CHECK_WIDTH));
            line.push_str(&format!("hint: {}\n", escape::text(advice)));
        }
        line
    };
    diagnostics.iter().map(line).collect()
}

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
    fn advice_is_indented_below_the_message() {
        let diagnostics = [
            Diagnostic::ok("socket", "exists"),
            Diagnostic::warning("log-space", "almost\x1b[2J full").advise("free some space"),
        ];
        assert_eq!(
            list(&diagnostics.each_ref()),
            "ok       socket             exists\n\
             warning  log-space          almost\\x1b[2J full\n\
             \u{20}                           hint: free some space\n"
        );
        assert_eq!(
            summary(&diagnostics),
            "1 ok, 0 notes, 1 warning, 0 failures\n"
        );
    }
}
