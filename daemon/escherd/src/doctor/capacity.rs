//! Diagnoses whether escherd can run as much as is configured: the limit on open files, and the
//! queue.

use std::time::Duration;

use escher_protocol::Diagnostic;

use super::EngineSnapshot;
use crate::host::service_manager::ServiceManager;

/// Time after which an execution that waits while nothing runs is a sign of a problem.
const STUCK_AFTER: Duration = Duration::from_secs(60);

pub(super) fn diagnose(engine: &EngineSnapshot) -> Vec<Diagnostic> {
    vec![open_files(engine), queue(engine)]
}

fn open_files(engine: &EngineSnapshot) -> Diagnostic {
    let check = "open-files";
    let budget = engine.fd_budget;
    let reduced: Vec<String> = [
        (
            "running executions",
            engine.settings_in_force.max_concurrent_executions,
            budget.executions,
        ),
        ("connections", engine.wanted_connections, budget.connections),
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
    let raise = match engine.manager {
        ServiceManager::None => "raise `ulimit -Hn` before you start escherd".to_owned(),
        manager => format!(
            "raise `LimitNOFILE=` of escherd.service ({})",
            manager.edit()
        ),
    };
    Diagnostic::warning(check, message).advise(format!("{raise}, or configure less"))
}

fn queue(engine: &EngineSnapshot) -> Diagnostic {
    let check = "queue";
    let counts = engine.counts;
    let shown = format!(
        "{} waiting, {} running of at most {}",
        counts.pending, counts.running, counts.max_concurrent
    );
    match engine.longest_wait {
        Some(wait) if counts.running == 0 && wait >= STUCK_AFTER => {
            let seconds = wait.as_secs();
            let message = format!("{shown}, and the first has been waiting for {seconds} s");
            let is_service = engine.settings_at_start.launcher_socket.is_some();
            let log = engine.manager.log_with_launcher(is_service);
            let advice = format!("the launcher provides no shims; {log} has the cause");
            Diagnostic::warning(check, message).advise(advice)
        }
        _ => Diagnostic::ok(check, shown),
    }
}
