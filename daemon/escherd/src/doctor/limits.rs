//! What bounds the work: open files, and a queue that does not move.

use std::time::Duration;

use escher_protocol::Diagnostic;

use super::Subject;

/// How long something may wait while nothing runs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn examine(subject: &Subject) -> Vec<Diagnostic> {
    vec![open_files(subject), queue(subject)]
}

fn open_files(subject: &Subject) -> Diagnostic {
    let check = "open-files";
    let budget = subject.budget;
    let short: Vec<String> = [
        (
            "executions at once",
            subject.settings.max_concurrent_executions,
            budget.executions,
        ),
        (
            "connections",
            subject.wanted_connections,
            budget.connections,
        ),
    ]
    .into_iter()
    .filter(|(_, wanted, granted)| granted < wanted)
    .map(|(what, wanted, granted)| format!("{granted} {what} where {wanted} are set"))
    .collect();
    if short.is_empty() {
        Diagnostic::ok(
            check,
            format!(
                "enough for {} executions at once and {} connections",
                budget.executions, budget.connections
            ),
        )
    } else {
        Diagnostic::warning(check, format!("enough for only {}", short.join(", ")))
    .advise("raise `LimitNOFILE=` of escherd.service (or `ulimit -Hn` before it is started), or set less")
    }
}

fn queue(subject: &Subject) -> Diagnostic {
    let check = "queue";
    let counts = subject.counts;
    let shown = format!(
        "{} wait, {} of {} run",
        counts.pending, counts.running, counts.max_concurrent
    );
    match subject.longest_wait {
        Some(wait) if counts.running == 0 && wait >= PATIENCE => {
            let message = format!("{shown}, and the first has waited for {} s", wait.as_secs());
            Diagnostic::warning(check, message).advise(
                "the launcher gives no shims: escherd's log says why (`journalctl -u escherd -u escher-launcher`)",
            )
        }
        _ => Diagnostic::ok(check, shown),
    }
}
