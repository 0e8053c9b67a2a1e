//! The store: whether it can be read and written, what damage has left, and how much is kept.

use escher_protocol::{Diagnostic, Text};

use super::{Audience, Subject, bytes};
use crate::api::cleanup::CleanupSettings;
use crate::store::{self, DamageReport, HistorySize};

pub(super) fn examine(subject: &Subject, audience: Audience) -> Vec<Diagnostic> {
    let path = subject.config.state_dir.join(store::FILE_NAME);
    let mut diagnostics = vec![health(subject)];
    match store::damage_report(&path) {
        Ok(remnants) => diagnostics.extend(damage(&remnants, audience)),
        Err(error) => {
            let message = format!(
                "{} cannot be read: {error}",
                subject.config.state_dir.display()
            );
            diagnostics.push(Diagnostic::failure("store-damage", message));
        }
    }
    if let Ok(size) = subject.stored {
        diagnostics.push(amount(size, subject.settings.cleanup));
    }
    diagnostics
}

fn health(subject: &Subject) -> Diagnostic {
    let check = "store";
    let log =
        "escherd's log says what it lacks (`journalctl -u escherd`); what runs goes on meanwhile";
    match (&subject.stored, subject.settled) {
        (Err(error), _) => Diagnostic::failure(check, error.message.clone()).advise(log),
        (Ok(_), Err(unsettled)) => {
            let message = format!("{unsettled}: nothing is taken on until it can be written");
            Diagnostic::failure(check, message).advise(log)
        }
        (Ok(_), Ok(())) => {
            Diagnostic::ok(check, "it can be read, and all that has happened is in it")
        }
    }
}

fn damage(remnants: &DamageReport, audience: Audience) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if remnants.is_damaged {
        diagnostics.push(
            Diagnostic::failure("store-damage", "damage was found in the store").advise(
                "`systemctl restart escherd`: it sets the store aside and begins a new one with all that can be read",
            ),
        );
    }
    if !remnants.set_aside.is_empty() {
        let names = audience.detail(|| remnants.set_aside.join(", "));
        let count = match remnants.set_aside.len() {
            1 => "one damaged store was".to_owned(),
            more => format!("{more} damaged stores were"),
        };
        diagnostics.push(
            Diagnostic::warning("store-set-aside", format!("{count} set aside{names}")).advise(
                "what could be read of it is in the new one. See to the disk (`dmesg`, `smartctl -a`); once it is of \
                 no use any more, remove it, with the file beside it that ends in -wal",
            ),
        );
    }
    diagnostics
}

fn amount(size: HistorySize, cleanup: CleanupSettings) -> Diagnostic {
    let check = "history";
    let limits = cleanup.limits;
    let kept: Text = format!(
        "{} finished executions, {}",
        size.executions,
        bytes(size.bytes)
    )
    .into();
    let is_over = size.executions > limits.max_count || size.bytes > limits.max_bytes;
    match (is_over, cleanup.is_automatic) {
        (false, _) => Diagnostic::ok(check, kept),
        (true, true) => Diagnostic::note(check, format!("{kept}: over its limits until it is next cleaned up")),
        (true, false) => Diagnostic::warning(check, format!("{kept}: over its limits, and nothing cleans it up"))
            .advise("set execution.enable_auto_cleanup, or forget what is old: `escherctl prune --until 30d`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HistoryLimits;
    use escher_protocol::Severity;
    use std::time::Duration;

    #[test]
    fn what_was_set_aside_is_named_to_those_who_may_know() {
        let remnants = DamageReport {
            set_aside: vec![
                "escher.db.set-aside-1".into(),
                "escher.db.set-aside-2".into(),
            ],
            is_damaged: false,
        };
        let told = |audience| damage(&remnants, audience)[0].message.to_string();
        assert_eq!(
            told(Audience::Administrator),
            "2 damaged stores were set aside: escher.db.set-aside-1, escher.db.set-aside-2"
        );
        assert_eq!(told(Audience::Anybody), "2 damaged stores were set aside");
        let damaged = DamageReport {
            set_aside: Vec::new(),
            is_damaged: true,
        };
        assert_eq!(
            damage(&damaged, Audience::Anybody)[0].severity,
            Severity::Failure
        );
    }

    #[test]
    fn a_history_that_nothing_bounds_is_told() {
        let verdict = |executions, is_automatic| {
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
            amount(size, cleanup).severity
        };
        assert_eq!(verdict(10, false), Severity::Ok);
        assert_eq!(verdict(11, true), Severity::Note);
        assert_eq!(verdict(11, false), Severity::Warning);
    }
}
