//! Answers of one line, or one line for each thing.

use escher_client::{CancelAnswer, Event, EventKind, GapReason, OutputGap, Reloaded, Removed};

use crate::failure::Failure;
use crate::render::escape;
use crate::render::quantity::{count, size};
use crate::time::{self, Zone};

/// A failure, with its hint on a second line.
pub(crate) fn failure(failure: &Failure) -> String {
    let details = failure.details();
    let mut shown = format!("escherctl: {}\n", escape::text(&details.message));
    if let Some(hint) = &details.hint {
        shown.push_str(&format!("  hint: {}\n", escape::text(hint)));
    }
    shown
}

/// What is missing from the output, and why.
pub(crate) fn missing_output(gap: &OutputGap) -> String {
    let what = match gap.bytes {
        Some(1) => "1 byte of the output is missing here".to_owned(),
        Some(bytes) => format!("{} of the output are missing here", size(bytes)),
        None => "output is missing here".to_owned(),
    };
    let reason = match gap.reason {
        GapReason::Dropped => {
            "the log has reached max_log_bytes or its user's share (users.log_share), or could not be written"
        }
        GapReason::Forgotten => {
            "the log has reached max_log_bytes or its user's share (users.log_share), and newer output has taken its place"
        }
        GapReason::Cut => "something other than escher has shortened the log",
    };
    format!("{what}: {reason}")
}

/// What `prune` has removed.
pub(crate) fn pruned(removed: Removed) -> String {
    format!("removed {}\n", executions_and_logs(removed))
}

/// What `prune` would remove.
pub(crate) fn prunable(prunable: Removed) -> String {
    format!("would remove {}\n", executions_and_logs(prunable))
}

/// Asks whether `prune` is to remove that.
pub(crate) fn prune_question(prunable: Removed) -> String {
    format!("remove {}? [y/N] ", executions_and_logs(prunable))
}

fn executions_and_logs(removed: Removed) -> String {
    let executions = count(removed.executions, "execution");
    let size = size(removed.log_bytes);
    format!("{executions}, {size} of logs")
}

/// What `reload` has changed, one line per setting.
pub(crate) fn reloaded(reloaded: &Reloaded) -> String {
    let applied = reloaded.applied.iter().map(|name| (name, "applied"));
    let need_restart = reloaded.need_restart.iter();
    let need_restart = need_restart.map(|name| (name, "requires a restart of escherd"));
    let lines: String = applied
        .chain(need_restart)
        .map(|(name, outcome)| format!("{}: {outcome}\n", escape::text(name)))
        .collect();
    if lines.is_empty() {
        return "no setting has changed\n".to_owned();
    }
    lines
}

/// The notice that `ps` shows only the newest executions.
pub(crate) fn list_truncated(limit: u32) -> String {
    let newest = count(limit.into(), "execution");
    format!("list truncated to the newest {newest}; use --limit 0 to show all")
}

/// An event.
pub(crate) fn event(event: &Event, zone: &Zone) -> String {
    let detail = match &event.kind {
        EventKind::Finished(status) => format!(" {status}"),
        EventKind::CancelRequested(by) => format!(" by {by}"),
        EventKind::Submitted | EventKind::Started => String::new(),
    };
    let name = event
        .name
        .as_deref()
        .map_or_else(String::new, |name| format!(" {name}"));
    let line = format!(
        "{} {} {} {}{name} {}{detail}",
        time::shown(event.time, zone),
        event.number,
        event.id,
        event.user,
        event.kind.name(),
    );
    escape::text(&line) + "\n"
}

/// The answer to a cancel request for `target`.
pub(crate) fn cancelled(target: &str, answer: CancelAnswer) -> String {
    let done = match answer {
        CancelAnswer::Withdrawn => "cancelled before it started".to_owned(),
        CancelAnswer::Ending => "ending".to_owned(),
        CancelAnswer::AlreadyEnding => "already ending".to_owned(),
        CancelAnswer::AlreadyFinished(status) => format!("already finished ({status})"),
    };
    format!("{}: {done}\n", escape::text(target))
}

/// Whether `target` is paused now.
pub(crate) fn paused(target: &str, is_paused: bool) -> String {
    let state = if is_paused { "paused" } else { "resumed" };
    format!("{}: {state}\n", escape::text(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_output_is_counted_where_it_can_be() {
        for (bytes, reason, expected) in [
            (
                Some(1),
                GapReason::Dropped,
                "1 byte of the output is missing here: the log has",
            ),
            (
                Some(1 << 21),
                GapReason::Forgotten,
                "2.0 MiB of the output are missing here: the",
            ),
            (None, GapReason::Dropped, "output is missing here: the log"),
            (
                Some(7),
                GapReason::Cut,
                "7 bytes of the output are missing here: something",
            ),
        ] {
            let offset = 3;
            let line = missing_output(&OutputGap {
                offset,
                bytes,
                reason,
            });
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn prune_counts_executions_and_bytes() {
        let shown = |executions, log_bytes| {
            pruned(Removed {
                executions,
                log_bytes,
            })
        };
        assert_eq!(shown(0, 0), "removed 0 executions, 0 bytes of logs\n");
        assert_eq!(shown(1, 1), "removed 1 execution, 1 byte of logs\n");
        let two = Removed {
            executions: 2,
            log_bytes: 1 << 20,
        };
        assert_eq!(
            prunable(two),
            "would remove 2 executions, 1.0 MiB of logs\n"
        );
        assert_eq!(
            prune_question(two),
            "remove 2 executions, 1.0 MiB of logs? [y/N] "
        );
    }

    #[test]
    fn a_reload_lists_each_changed_setting() {
        let mut settings = Reloaded::default();
        assert_eq!(reloaded(&settings), "no setting has changed\n");
        settings.need_restart = vec!["daemon.socket_mode".into()];
        settings.applied = vec!["execution.max_timeout_ms".into()];
        assert_eq!(
            reloaded(&settings),
            "execution.max_timeout_ms: applied\n\
             daemon.socket_mode: requires a restart of escherd\n"
        );
    }
}
