//! Diagnoses escherd's process: whether it runs the installed program, and whether a service
//! manager supervises it.

use std::path::Path;

use escher_protocol::Diagnostic;

use crate::host::systemd;

/// The kernel's mark after the path of a program that was removed or replaced (proc_pid_exe(5)).
const DELETED: &str = " (deleted)";

/// Diagnoses escherd's program and its service manager.
#[must_use]
pub fn diagnose_daemon() -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if let Ok(program) = std::fs::read_link("/proc/self/exe") {
        diagnostics.push(installed_program(&program));
    }
    diagnostics.extend(service_manager());
    diagnostics
}

fn installed_program(program: &Path) -> Diagnostic {
    let check = "escherd-program";
    let shown = program.to_string_lossy();
    match shown.strip_suffix(DELETED) {
        Some(path) => {
            let message = format!("{path} was replaced after escherd was started");
            Diagnostic::warning(check, message).advise(
                "run `systemctl restart escherd`; commands keep running, and clients reconnect",
            )
        }
        None => Diagnostic::ok(check, format!("{shown}, {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn service_manager() -> Vec<Diagnostic> {
    let check = "service-manager";
    if !systemd::is_notifiable() {
        let message = "not started by systemd: nothing restarts escherd if it ends";
        return vec![Diagnostic::note(check, message).advise(
            "run `systemctl enable --now escherd.socket`, or `systemctl --user enable --now \
             escherd.socket` for an escherd of your own",
        )];
    }
    let watchdog = match systemd::watchdog_timeout() {
        Some(timeout) => {
            let seconds = timeout.as_secs();
            let message = format!("systemd restarts escherd if it hangs for {seconds} s");
            Diagnostic::ok("watchdog", message)
        }
        None => Diagnostic::note("watchdog", "off: nothing notices if escherd hangs")
            .advise("set `WatchdogSec=30` for escherd.service (systemd.service(5))"),
    };
    vec![Diagnostic::ok(check, "started by systemd"), watchdog]
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::Severity;

    #[test]
    fn warns_of_a_program_that_was_replaced() {
        let severity = |path: &str| installed_program(Path::new(path)).severity;
        assert_eq!(severity("/usr/bin/escherd"), Severity::Ok);
        let replaced = installed_program(Path::new("/usr/bin/escherd (deleted)"));
        assert_eq!(replaced.severity, Severity::Warning);
        let expected = "/usr/bin/escherd was replaced after escherd was started";
        assert_eq!(&*replaced.message, expected);
    }
}
