//! Diagnostics for people.

use escher_client::{Diagnostic, Severity};

use super::escape;

/// Columns of the longest severity and of most checks, with the gap behind them.
const SEVERITY: usize = 9;
const CHECK: usize = 19;

/// A line each, with what can be done indented below.
pub(crate) fn list(diagnostics: &[&Diagnostic]) -> String {
    let line = |diagnostic: &&Diagnostic| {
        let mut line = format!(
            "{:<SEVERITY$}{:<CHECK$}{}\n",
            diagnostic.severity.name(),
            // From another escherd it may be anything.
            escape::text(&diagnostic.check),
            escape::text(&diagnostic.message),
        );
        if let Some(advice) = &diagnostic.advice {
            line.push_str(&" ".repeat(SEVERITY + CHECK));
            line.push_str(&format!("hint: {}\n", escape::text(advice)));
        }
        line
    };
    diagnostics.iter().map(line).collect()
}

/// How many there are of each kind.
pub(crate) fn summary(diagnostics: &[Diagnostic]) -> String {
    let of = |severity| {
        diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    };
    let counted = |severity, word: &str| match of(severity) {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{} ok, {}, {}, {}\n",
        of(Severity::Ok),
        counted(Severity::Note, "note"),
        counted(Severity::Warning, "warning"),
        counted(Severity::Failure, "failure"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let diagnostics = [
            Diagnostic::ok("socket", "it is there"),
            Diagnostic::warning("log-space", "little\x1b[2J is free").advise("make room"),
        ];
        assert_eq!(
            list(&diagnostics.each_ref()),
            "ok       socket             it is there\n\
             warning  log-space          little\\x1b[2J is free\n\
             \u{20}                           hint: make room\n"
        );
        assert_eq!(
            summary(&diagnostics),
            "1 ok, 0 notes, 1 warning, 0 failures\n"
        );
    }
}
