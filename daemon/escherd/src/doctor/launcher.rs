//! Diagnoses the launcher: whether it is connected, its version, and what it can do for commands.

use escher_protocol::{Controllers, Diagnostic};

use crate::launch::LauncherState;

/// escherd's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const ADVICE_UPDATE: &str = "run `systemctl reload escher-launcher`, which starts the installed \
     program; where escherd starts its launcher itself, run `systemctl restart escherd`. Commands \
     keep running meanwhile";

const ADVICE_DELEGATE: &str = "start the launcher as escher-launcher.service, which has \
     `Delegate=yes` (systemd.resource-control(5))";

pub(super) fn diagnose(launcher: Option<&LauncherState>) -> Vec<Diagnostic> {
    let check = "launcher";
    let Some(launcher) = launcher else {
        let message = "not connected: commands wait until it is";
        return vec![Diagnostic::failure(check, message).advise(
            "`journalctl -u escherd -u escher-launcher` shows the cause; if the launcher is a \
             service of its own, run `systemctl start escher-launcher`",
        )];
    };
    let connected = format!("connected, process {}", launcher.pid);
    vec![
        Diagnostic::ok(check, connected),
        version(launcher),
        cgroups(launcher),
    ]
}

fn version(launcher: &LauncherState) -> Diagnostic {
    let check = "launcher-version";
    let program = &*launcher.abilities.program;
    if program == VERSION {
        Diagnostic::ok(
            check,
            format!("the launcher and escherd are both {VERSION}"),
        )
    } else {
        let message = format!("the launcher is {program}, escherd {VERSION}");
        Diagnostic::warning(check, message).advise(ADVICE_UPDATE)
    }
}

fn cgroups(launcher: &LauncherState) -> Diagnostic {
    let check = "cgroups";
    let Some(controllers) = launcher.abilities.cgroups else {
        let message = "commands have no cgroups: no limits, no measurements, no pause";
        return Diagnostic::warning(check, message).advise(ADVICE_DELEGATE);
    };
    let (available, missing) = partition(controllers);
    if missing.is_empty() {
        let available = available.join(", ");
        return Diagnostic::ok(check, format!("each command has one, with {available}"));
    }
    let missing = missing.join(", ");
    let message = format!(
        "commands have cgroups without {missing}: these resources are not limited or measured"
    );
    Diagnostic::warning(check, message).advise(ADVICE_DELEGATE)
}

/// Returns the names of available and of missing controllers.
fn partition(controllers: Controllers) -> (Vec<&'static str>, Vec<&'static str>) {
    let all = [
        ("memory", controllers.memory),
        ("cpu", controllers.cpu),
        ("pids", controllers.pids),
        ("io", controllers.io),
    ];
    let (available, missing): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, is_available)| *is_available);
    let names = |list: Vec<(&'static str, bool)>| list.into_iter().map(|(name, _)| name).collect();
    (names(available), names(missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::{Abilities, LogDirAbilities, ProcessDefaults};
    use escher_protocol::Severity;

    fn severities(state: Option<&LauncherState>) -> Vec<(String, Severity)> {
        let diagnostics = diagnose(state).into_iter();
        diagnostics
            .map(|diagnostic| (diagnostic.check.into_string(), diagnostic.severity))
            .collect()
    }

    fn launcher_of(program: &str, cgroups: Option<Controllers>) -> LauncherState {
        LauncherState {
            pid: 7,
            abilities: Abilities {
                program: program.into(),
                log_dir: LogDirAbilities::default(),
                cgroups,
                process: ProcessDefaults::default(),
            },
        }
    }

    #[test]
    fn a_launcher_of_this_version_with_all_controllers_is_ok() {
        let all = Controllers {
            memory: true,
            cpu: true,
            pids: true,
            io: true,
            io_weight: true,
        };
        let severities = severities(Some(&launcher_of(VERSION, Some(all))));
        assert!(
            severities
                .iter()
                .all(|(_, severity)| *severity == Severity::Ok),
            "{severities:?}"
        );
    }

    #[test]
    fn names_what_a_launcher_lacks() {
        assert_eq!(
            severities(None),
            [("launcher".to_owned(), Severity::Failure)]
        );
        let other = diagnose(Some(&launcher_of("0.0.1", None)));
        assert!(other[1].message.contains("0.0.1") && other[1].advice.is_some());
        assert_eq!(other[2].severity, Severity::Warning);
        let some = Controllers {
            cpu: true,
            ..Controllers::default()
        };
        let message = &diagnose(Some(&launcher_of(VERSION, Some(some))))[2].message;
        assert!(message.contains("memory, pids, io"), "{message}");
    }
}
