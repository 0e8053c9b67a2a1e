//! Examines the limit on open files, and whether the queue moves.

use std::time::Duration;

use escher_protocol::Diagnostic;

use super::Subject;

/// Time after which an execution that waits while nothing runs is a sign of a fault.
const STUCK_AFTER: Duration = Duration::from_secs(60);

pub(super) fn examine(subject: &Subject) -> Vec<Diagnostic> {
    vec![open_files(subject), queue(subject)]
}

fn open_files(subject: &Subject) -> Diagnostic {
    let check = "open-files";
    let budget = subject.budget;
    let reduced: Vec<String> = [
        (
            "running executions",
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
    .map(|(what, wanted, granted)| format!("only {granted} {what}, not the {wanted} configured"))
    .collect();
    if reduced.is_empty() {
        let message = format!(
            "enough for {} running executions and {} connections",
            budget.executions, budget.connections
        );
        return Diagnostic::ok(check, message);
    }
    let message = format!("the limit on open files allows {}", reduced.join(", and "));
    Diagnostic::warning(check, message).advise(
        "raise `LimitNOFILE=` of escherd.service (or `ulimit -Hn` before you start escherd), or \
         configure less",
    )
}

fn queue(subject: &Subject) -> Diagnostic {
    let check = "queue";
    let counts = subject.counts;
    let shown = format!(
        "{} waiting, {} running of at most {}",
        counts.pending, counts.running, counts.max_concurrent
    );
    match subject.longest_wait {
        Some(wait) if counts.running == 0 && wait >= STUCK_AFTER => {
            let seconds = wait.as_secs();
            let message = format!("{shown}, and the first has been waiting for {seconds} s");
            Diagnostic::warning(check, message).advise(
                "the launcher provides no shims. The logs have the cause: `journalctl -u escherd \
                 -u escher-launcher`",
            )
        }
        _ => Diagnostic::ok(check, shown),
    }
}
