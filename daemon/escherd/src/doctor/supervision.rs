//! Whether somebody sees to escherd itself, and whether it is the program that is installed.

use std::path::Path;

use escher_protocol::Diagnostic;

use crate::host::systemd;

/// What the kernel appends to the path of a program that is not there any more (proc_pid_exe(5)).
const DELETED: &str = " (deleted)";

/// Whether escherd is the program on disk, and has a service manager.
#[must_use]
pub fn supervision() -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if let Ok(program) = std::fs::read_link("/proc/self/exe") {
        diagnostics.push(program_on_disk(&program));
    }
    diagnostics.extend(manager());
    diagnostics
}

fn program_on_disk(program: &Path) -> Diagnostic {
    let check = "escherd-program";
    let shown = program.to_string_lossy();
    match shown.strip_suffix(DELETED) {
        Some(path) => Diagnostic::warning(
            check,
            format!("{path} was replaced since escherd was started from it"),
        )
        .advise("`systemctl restart escherd`; commands and who waits for them go on"),
        None => Diagnostic::ok(check, format!("{shown}, {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn manager() -> Vec<Diagnostic> {
    if !systemd::is_listening() {
        return vec![
            Diagnostic::note(
                "service-manager",
                "nobody starts escherd again if it ends: it is not under systemd",
            )
            .advise(
                "`systemctl enable --now escherd.socket`, or for yourself the same with `--user`",
            ),
        ];
    }
    let watchdog = match systemd::watchdog_timeout() {
        Some(patience) => Diagnostic::ok(
            "watchdog",
            format!(
                "systemd starts escherd again when it is not heard of for {} s",
                patience.as_secs()
            ),
        ),
        None => Diagnostic::note("watchdog", "nobody notices if escherd hangs")
            .advise("set `WatchdogSec=30` for escherd.service (systemd.service(5))"),
    };
    vec![
        Diagnostic::ok("service-manager", "escherd is under systemd"),
        watchdog,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::Severity;

    #[test]
    fn a_program_that_was_replaced_is_told() {
        let verdict = |path: &str| program_on_disk(Path::new(path)).severity;
        assert_eq!(verdict("/usr/bin/escherd"), Severity::Ok);
        assert_eq!(verdict("/usr/bin/escherd (deleted)"), Severity::Warning);
    }
}
