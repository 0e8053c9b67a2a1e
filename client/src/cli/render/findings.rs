//! Findings for people.

use escher_client::{Finding, Verdict};

use super::escape;

/// Columns of the longest verdict and of most checks, with the gap behind them.
const VERDICT: usize = 9;
const CHECK: usize = 19;

/// A line each, with what can be done indented below.
pub(crate) fn list(findings: &[&Finding]) -> String {
    let line = |finding: &&Finding| {
        let mut line = format!(
            "{:<VERDICT$}{:<CHECK$}{}\n",
            finding.verdict.name(),
            // From another escherd it may be anything.
            escape::text(&finding.check),
            escape::text(&finding.message),
        );
        if let Some(advice) = &finding.advice {
            line.push_str(&" ".repeat(VERDICT + CHECK));
            line.push_str(&format!("hint: {}\n", escape::text(advice)));
        }
        line
    };
    findings.iter().map(line).collect()
}

/// How many there are of each kind.
pub(crate) fn summary(findings: &[Finding]) -> String {
    let of = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let counted = |verdict, word: &str| match of(verdict) {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{} ok, {}, {}, {}\n",
        of(Verdict::Ok),
        counted(Verdict::Note, "note"),
        counted(Verdict::Warning, "warning"),
        counted(Verdict::Failure, "failure"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let findings = [
            Finding::ok("socket", "it is there"),
            Finding::warning("log-space", "little\x1b[2J is free").advise("make room"),
        ];
        assert_eq!(
            list(&findings.each_ref()),
            "ok       socket             it is there\n\
             warning  log-space          little\\x1b[2J is free\n\
             \u{20}                           hint: make room\n"
        );
        assert_eq!(summary(&findings), "1 ok, 0 notes, 1 warning, 0 failures\n");
    }
}
