//! Findings.

use escher_client::Finding;
use serde::Serialize;

use super::line;

/// A finding.
pub(crate) fn finding(finding: &Finding) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        check: &'a str,
        verdict: &'a str,
        message: &'a str,
        advice: Option<&'a str>,
    }
    line(&Line {
        check: &finding.check,
        verdict: finding.verdict.name(),
        message: &finding.message,
        advice: finding.advice.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_always_there() {
        assert_eq!(
            finding(&Finding::note("cgroups", "none")),
            "{\"check\":\"cgroups\",\"verdict\":\"note\",\"message\":\"none\",\"advice\":null}\n"
        );
    }
}
