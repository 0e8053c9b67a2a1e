//! Diagnoses the store: whether it can be read and written, whether it was damaged, and its size.

use escher_protocol::{Diagnostic, Text};

use super::{Audience, EngineSnapshot, format_bytes};
use crate::config::CleanupSettings;
use crate::host::service_manager::ServiceManager;
use crate::store::{self, DamageReport, HistorySize, SetAsideStore};

pub(super) fn diagnose(engine: &EngineSnapshot, audience: Audience) -> Vec<Diagnostic> {
    let path = engine.settings_at_start.state_dir.join(store::FILE_NAME);
    let mut diagnostics = vec![health(engine)];
    match store::damage_report(&path) {
        Ok(report) => {
            let cleanup = engine.settings_in_force.cleanup;
            diagnostics.extend(damage(&report, cleanup, audience, engine.manager));
        }
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
    let log = engine.manager.log();
    let advice = format!("{log} has the cause. Running commands are not affected");
    match (&engine.history_size, engine.flushed) {
        (Err(error), _) => Diagnostic::failure(check, error.message.clone()).advise(advice),
        (Ok(_), Err(timeout)) => {
            let message = format!("{timeout}: no command is accepted until it can be written");
            Diagnostic::failure(check, message).advise(advice)
        }
        (Ok(_), Ok(())) => Diagnostic::ok(check, "readable, and all changes are written"),
    }
}

fn damage(
    report: &DamageReport,
    cleanup: CleanupSettings,
    audience: Audience,
    manager: ServiceManager,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if report.is_damaged {
        let restart = manager.restart();
        let advice = format!(
            "{restart}: it sets the damaged file aside, and makes a new store of all that can be read"
        );
        let damaged = Diagnostic::failure("store-damage", "the store is damaged");
        diagnostics.push(damaged.advise(advice));
    }
    if !report.set_aside.is_empty() {
        let names = report.set_aside.iter().map(|store| store.name.as_str());
        let names = audience.detail(|| names.clone().collect::<Vec<_>>().join(", "));
        let count = match report.set_aside.len() {
            1 => "one damaged store was".to_owned(),
            more => format!("{more} damaged stores were"),
        };
        let message = format!("{count} set aside{names}");
        let advice = format!(
            "the new store has all that could be read of it. Check the disk (`dmesg`, `smartctl \
             -a`). {}. Remove the file earlier if you do not need it, and the one of the same name \
             that ends in -wal",
            deletion(&report.set_aside, cleanup)
        );
        diagnostics.push(Diagnostic::warning("store-set-aside", message).advise(advice));
    }
    diagnostics
}

/// Says until when stores that were set aside are kept.
fn deletion(set_aside: &[SetAsideStore], cleanup: CleanupSettings) -> String {
    let newest = set_aside.iter().filter_map(|store| store.since).max();
    let end = newest.filter(|_| cleanup.is_automatic).and_then(|since| {
        let end = since.saturating_add(cleanup.set_aside_age);
        jiff::Timestamp::from_microsecond(end.as_micros()).ok()
    });
    let what = match set_aside.len() {
        1 => "It is",
        _ => "The last of them is",
    };
    match end {
        Some(end) => {
            let date = end.strftime("%F");
            format!("{what} kept until {date} (store.set_aside_age) and then deleted")
        }
        None => format!("{what} kept until you delete it"),
    }
}

fn history(size: HistorySize, cleanup: CleanupSettings) -> Diagnostic {
    let check = "history";
    let limits = cleanup.limits;
    let size_shown: Text = format!(
        "{} finished, {} of logs",
        size.executions,
        format_bytes(size.log_bytes)
    )
    .into();
    let is_over_limits = size.executions > limits.max_count || size.log_bytes > limits.max_bytes;
    match (is_over_limits, cleanup.is_automatic) {
        (false, _) => Diagnostic::ok(check, size_shown),
        (true, true) => {
            let message = format!(
                "{size_shown}: over the limits until the next cleanup, or until less of it is newer \
                 than history.min_age"
            );
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
    use escher_protocol::{Severity, Timestamp};
    use std::time::Duration;

    const CLEANUP: CleanupSettings = CleanupSettings {
        is_automatic: true,
        interval: Duration::ZERO,
        retention: Duration::ZERO,
        limits: HistoryLimits {
            max_age_secs: u64::MAX,
            max_bytes: u64::MAX,
            max_count: 10,
            min_age: Duration::ZERO,
        },
        set_aside_age: Duration::from_secs(30 * 24 * 60 * 60),
    };

    /// Returns a store that was set aside on the second of January 2026, and one of the third.
    fn two_set_aside() -> DamageReport {
        let store = |number: i64| SetAsideStore {
            name: format!("escher.db.set-aside-{number}"),
            since: Some(Timestamp::from_micros(
                1_767_225_600_000_000 + number * 86_400_000_000,
            )),
        };
        DamageReport {
            set_aside: vec![store(1), store(2)],
            is_damaged: false,
        }
    }

    #[test]
    fn only_administrators_see_the_names_of_damaged_stores() {
        let report = two_set_aside();
        let message = |audience| {
            damage(&report, CLEANUP, audience, ServiceManager::System)[0]
                .message
                .to_string()
        };
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
        let manager = ServiceManager::User;
        let diagnostic = &damage(&damaged, CLEANUP, Audience::Everybody, manager)[0];
        assert_eq!(diagnostic.severity, Severity::Failure);
        assert_eq!(&*diagnostic.message, "the store is damaged");
        let advice = diagnostic.advice.as_ref().unwrap();
        assert!(advice.contains("systemctl --user restart"), "{advice}");
    }

    #[test]
    fn says_until_when_damaged_stores_are_kept() {
        let report = two_set_aside();
        assert_eq!(
            deletion(&report.set_aside, CLEANUP),
            "The last of them is kept until 2026-02-02 (store.set_aside_age) and then deleted"
        );
        let by_hand = CleanupSettings {
            is_automatic: false,
            ..CLEANUP
        };
        let for_ever = CleanupSettings {
            set_aside_age: Duration::MAX,
            ..CLEANUP
        };
        for cleanup in [by_hand, for_ever] {
            assert_eq!(
                deletion(&report.set_aside[..1], cleanup),
                "It is kept until you delete it"
            );
        }
    }

    #[test]
    fn warns_of_a_history_over_its_limits_without_cleanup() {
        let severity = |executions, is_automatic| {
            let cleanup = CleanupSettings {
                is_automatic,
                ..CLEANUP
            };
            let size = HistorySize {
                executions,
                log_bytes: 1,
            };
            let history = history(size, cleanup);
            (history.severity, history.message.into_string())
        };
        let size = |executions| format!("{executions} finished, 1 byte of logs");
        assert_eq!(severity(10, false), (Severity::Ok, size(10)));
        let (warned, message) = severity(11, true);
        assert_eq!(warned, Severity::Note);
        assert!(message.starts_with(&(size(11) + ": over the limits until the next cleanup")));
        let (warned, message) = severity(11, false);
        assert_eq!(warned, Severity::Warning);
        assert_eq!(
            message,
            size(11) + ": over the limits, and automatic cleanup is off"
        );
    }
}
