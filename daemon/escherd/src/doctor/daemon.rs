//! Diagnoses escherd's process: whether it runs the installed program, and whether a service
//! manager supervises it.

use std::path::Path;

use escher_protocol::Diagnostic;

use crate::host::service_manager::ServiceManager;
use crate::host::systemd;

/// The kernel's mark after the path of a program that was removed or replaced (proc_pid_exe(5)).
const DELETED: &str = " (deleted)";

/// Diagnoses escherd's program and its service manager. `serves_all_users`: whether it is the system's.
#[must_use]
pub fn diagnose_daemon(serves_all_users: bool) -> Vec<Diagnostic> {
    let manager = ServiceManager::current();
    let mut diagnostics = Vec::new();
    if let Ok(program) = std::fs::read_link("/proc/self/exe") {
        diagnostics.push(installed_program(&program, manager));
    }
    diagnostics.extend(service_manager(manager, serves_all_users));
    diagnostics
}

fn installed_program(program: &Path, manager: ServiceManager) -> Diagnostic {
    let check = "escherd-program";
    let shown = program.to_string_lossy();
    match shown.strip_suffix(DELETED) {
        Some(path) => {
            let message = format!("{path} was replaced after escherd was started");
            let restart = manager.restart();
            let advice = format!("{restart}; commands keep running, and clients reconnect");
            Diagnostic::warning(check, message).advise(advice)
        }
        None => Diagnostic::ok(check, format!("{shown}, {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn service_manager(manager: ServiceManager, serves_all_users: bool) -> Vec<Diagnostic> {
    let check = "service-manager";
    if manager == ServiceManager::None {
        let message = "not started by systemd: nothing restarts escherd if it ends";
        let advice = if serves_all_users {
            "run `systemctl enable --now escherd.socket`"
        } else {
            "run `systemctl --user enable --now escherd.socket`"
        };
        return vec![Diagnostic::note(check, message).advise(advice)];
    }
    let watchdog = match systemd::watchdog_timeout() {
        Some(timeout) => {
            let seconds = timeout.as_secs();
            let message = format!("systemd restarts escherd if it hangs for {seconds} s");
            Diagnostic::ok("watchdog", message)
        }
        None => Diagnostic::note("watchdog", "off: nothing notices if escherd hangs")
            .advise(format!("set `WatchdogSec=30` ({})", manager.edit())),
    };
    vec![Diagnostic::ok(check, "started by systemd"), watchdog]
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::Severity;

    #[test]
    fn warns_of_a_program_that_was_replaced() {
        let diagnose = |path: &str| installed_program(Path::new(path), ServiceManager::User);
        assert_eq!(diagnose("/usr/bin/escherd").severity, Severity::Ok);
        let replaced = diagnose("/usr/bin/escherd (deleted)");
        assert_eq!(replaced.severity, Severity::Warning);
        let expected = "/usr/bin/escherd was replaced after escherd was started";
        assert_eq!(&*replaced.message, expected);
    }
}
