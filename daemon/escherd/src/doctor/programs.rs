//! The launcher: whether it is there, is of this release, and what it can do for commands.

use escher_protocol::{Controllers, Diagnostic};

use crate::launch::LauncherState;

/// This escherd's release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const DELEGATE: &str =
    "have the launcher run by its unit, which has `Delegate=yes` (systemd.resource-control(5))";

pub(super) fn launcher(launcher: Option<&LauncherState>) -> Vec<Diagnostic> {
    let Some(launcher) = launcher else {
        return vec![
            Diagnostic::failure(
                "launcher",
                "no launcher is connected: what is submitted waits",
            )
            .advise(
                "`journalctl -u escherd -u escher-launcher` says why; \
                 `systemctl start escher-launcher` starts it where it has a unit of its own",
            ),
        ];
    };
    let connected = format!("connected, process {}", launcher.pid);
    let mut diagnostics = vec![Diagnostic::ok("launcher", connected)];
    diagnostics.push(release(launcher));
    diagnostics.push(cgroups(launcher));
    diagnostics
}

fn release(launcher: &LauncherState) -> Diagnostic {
    let check = "launcher-version";
    let update = "`systemctl reload escher-launcher` has it become the program on disk; a launcher that escherd has \
                  started itself is renewed with `systemctl restart escherd`. Commands go on meanwhile";
    let program = &*launcher.abilities.program;
    if program == VERSION {
        Diagnostic::ok(check, format!("of the same release as escherd, {VERSION}"))
    } else {
        let message = format!("the launcher is {program}, escherd {VERSION}");
        Diagnostic::warning(check, message).advise(update)
    }
}

fn cgroups(launcher: &LauncherState) -> Diagnostic {
    let check = "cgroups";
    let Some(controllers) = launcher.abilities.cgroups else {
        let message = "commands have no cgroups: no limits, no figures, no pause";
        return Diagnostic::warning(check, message).advise(DELEGATE);
    };
    let (there, missing) = sort(controllers);
    if missing.is_empty() {
        Diagnostic::ok(
            check,
            format!("each command has one, with {}", there.join(", ")),
        )
    } else {
        let message = format!(
            "commands have cgroups without {}: these are neither limited nor measured",
            missing.join(", ")
        );
        Diagnostic::warning(check, message).advise(DELEGATE)
    }
}

/// Names of the controllers that are there and of those that are not.
fn sort(controllers: Controllers) -> (Vec<&'static str>, Vec<&'static str>) {
    let all = [
        ("memory", controllers.memory),
        ("cpu", controllers.cpu),
        ("pids", controllers.pids),
        ("io", controllers.io),
    ];
    let (there, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, is_there)| *is_there);
    let names = |list: Vec<(&'static str, bool)>| list.into_iter().map(|(name, _)| name).collect();
    (names(there), names(missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::Abilities;
    use escher_protocol::Severity;

    fn verdicts(state: Option<&LauncherState>) -> Vec<(String, Severity)> {
        let diagnostics = launcher(state).into_iter();
        diagnostics
            .map(|diagnostic| (diagnostic.check.into_string(), diagnostic.severity))
            .collect()
    }

    fn saying(program: &str, cgroups: Option<Controllers>) -> LauncherState {
        LauncherState {
            pid: 7,
            abilities: Abilities {
                program: program.into(),
                has_directories: true,
                cgroups,
            },
        }
    }

    #[test]
    fn a_launcher_of_this_release_with_all_controllers_is_well() {
        let all = Controllers {
            memory: true,
            cpu: true,
            pids: true,
            io: true,
        };
        let diagnostics = verdicts(Some(&saying(VERSION, Some(all))));
        assert!(
            diagnostics
                .iter()
                .all(|(_, verdict)| *verdict == Severity::Ok),
            "{diagnostics:?}"
        );
    }

    #[test]
    fn what_a_launcher_lacks_is_named() {
        assert_eq!(verdicts(None), [("launcher".to_owned(), Severity::Failure)]);
        let other = launcher(Some(&saying("0.0.1", None)));
        assert!(other[1].message.contains("0.0.1") && other[1].advice.is_some());
        assert_eq!(other[2].severity, Severity::Warning);
        let some = Controllers {
            cpu: true,
            ..Controllers::default()
        };
        let message = &launcher(Some(&saying(VERSION, Some(some))))[2].message;
        assert!(message.contains("memory, pids, io"), "{message}");
    }
}
