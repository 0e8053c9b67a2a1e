//! Diagnoses the store: whether it can be read and written, whether it was damaged, and its size.

use escher_protocol::{Diagnostic, Text};

use super::{Audience, EngineSnapshot, format_bytes};
use crate::config::CleanupSettings;
use crate::store::{self, DamageReport, HistorySize};

pub(super) fn diagnose(engine: &EngineSnapshot, audience: Audience) -> Vec<Diagnostic> {
    let path = engine.settings_at_start.state_dir.join(store::FILE_NAME);
    let mut diagnostics = vec![health(engine)];
    match store::damage_report(&path) {
        Ok(report) => diagnostics.extend(damage(&report, audience)),
        Err(error) => {
            let directory = engine.settings_at_start.state_dir.display();
            let message = format!("cannot read {directory}: {error}");
            diagnostics.push(Diagnostic::failure("store-damage", message));
        }
    }
    if let Ok(size) = engine.history_size {
        diagnostics.push(history(size, engine.settings_in_force.cleanup));
    }
    diagnostics
}

fn health(engine: &EngineSnapshot) -> Diagnostic {
    let check = "store";
    let advice = "escherd's log has the cause: `journalctl -u escherd`. Running commands are not \
                  affected";
    match (&engine.history_size, engine.flushed) {
        (Err(error), _) => Diagnostic::failure(check, error.message.clone()).advise(advice),
        (Ok(_), Err(timeout)) => {
            let message = format!("{timeout}: no command is accepted until it can be written");
            Diagnostic::failure(check, message).advise(advice)
        }
        (Ok(_), Ok(())) => Diagnostic::ok(check, "readable, and all changes are written"),
    }
}

fn damage(report: &DamageReport, audience: Audience) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if report.is_damaged {
        diagnostics.push(Diagnostic::failure("store-damage", "the store is damaged").advise(
            "run `systemctl restart escherd`: it sets the damaged file aside, and makes a new store \
             of all that can be read",
        ));
    }
    if !report.set_aside.is_empty() {
        let names = audience.detail(|| report.set_aside.join(", "));
        let count = match report.set_aside.len() {
            1 => "one damaged store was".to_owned(),
            more => format!("{more} damaged stores were"),
        };
        let message = format!("{count} set aside{names}");
        diagnostics.push(Diagnostic::warning("store-set-aside", message).advise(
            "the new store has all that could be read of it. Check the disk (`dmesg`, `smartctl \
             -a`). Remove the file once you no longer need it, and the one of the same name that \
             ends in -wal",
        ));
    }
    diagnostics
}

fn history(size: HistorySize, cleanup: CleanupSettings) -> Diagnostic {
    let check = "history";
    let limits = cleanup.limits;
    let size_shown: Text = format!(
        "{} finished executions, {}",
        size.executions,
        format_bytes(size.bytes)
    )
    .into();
    let is_over_limits = size.executions > limits.max_count || size.bytes > limits.max_bytes;
    match (is_over_limits, cleanup.is_automatic) {
        (false, _) => Diagnostic::ok(check, size_shown),
        (true, true) => {
            let message = format!("{size_shown}: over the limits until the next cleanup");
            Diagnostic::note(check, message)
        }
        (true, false) => {
            let message = format!("{size_shown}: over the limits, and automatic cleanup is off");
            Diagnostic::warning(check, message).advise(
                "set execution.enable_auto_cleanup, or remove old executions: `escherctl prune \
                 --until 30d`",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HistoryLimits;
    use escher_protocol::Severity;
    use std::time::Duration;

    #[test]
    fn only_administrators_see_the_names_of_damaged_stores() {
        let report = DamageReport {
            set_aside: vec![
                "escher.db.set-aside-1".into(),
                "escher.db.set-aside-2".into(),
            ],
            is_damaged: false,
        };
        let message = |audience| damage(&report, audience)[0].message.to_string();
        assert_eq!(
            message(Audience::Administrator),
            "2 damaged stores were set aside: escher.db.set-aside-1, escher.db.set-aside-2"
        );
        assert_eq!(
            message(Audience::Everybody),
            "2 damaged stores were set aside"
        );
        let damaged = DamageReport {
            set_aside: Vec::new(),
            is_damaged: true,
        };
        assert_eq!(
            damage(&damaged, Audience::Everybody)[0].severity,
            Severity::Failure
        );
    }

    #[test]
    fn warns_of_a_history_over_its_limits_without_cleanup() {
        let severity = |executions, is_automatic| {
            let cleanup = CleanupSettings {
                is_automatic,
                interval: Duration::ZERO,
                retention: Duration::ZERO,
                limits: HistoryLimits {
                    max_age_secs: u64::MAX,
                    max_bytes: u64::MAX,
                    max_count: 10,
                },
            };
            let size = HistorySize {
                executions,
                bytes: 1,
            };
            history(size, cleanup).severity
        };
        assert_eq!(severity(10, false), Severity::Ok);
        assert_eq!(severity(11, true), Severity::Note);
        assert_eq!(severity(11, false), Severity::Warning);
    }
}
