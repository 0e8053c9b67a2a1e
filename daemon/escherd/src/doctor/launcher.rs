//! Diagnoses the launcher: whether it is connected, its version, and what it can do for commands.

use escher_protocol::{Controllers, Diagnostic};

use crate::host::service_manager::ServiceManager;
use crate::launch::LauncherState;

/// escherd's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the launcher comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// Whether it is a service. Otherwise escherd starts it.
    pub(super) is_service: bool,
    /// The service manager that runs escherd.
    pub(super) manager: ServiceManager,
}

impl Source {
    /// Returns how to start the launcher again.
    fn start(self) -> &'static str {
        if self.is_service {
            "run `systemctl start escher-launcher`"
        } else {
            self.manager.restart()
        }
    }

    /// Returns how to have the installed program run as the launcher.
    fn update(self) -> &'static str {
        if self.is_service {
            "run `systemctl reload escher-launcher`"
        } else {
            self.manager.restart()
        }
    }

    /// Returns how commands get cgroups with all controllers.
    fn delegate(self) -> &'static str {
        match (self.is_service, self.manager) {
            (true, _) => {
                "have escher-launcher.service run with `Delegate=yes` (systemd.resource-control(5))"
            }
            (false, ServiceManager::System) => {
                "start the launcher as escher-launcher.service, which has `Delegate=yes` \
                 (systemd.resource-control(5))"
            }
            (false, _) => {
                "use the system's escherd for such commands (`escherctl --system`): they need the \
                 cgroup of escher-launcher.service"
            }
        }
    }
}

pub(super) fn diagnose(launcher: Option<&LauncherState>, source: Source) -> Vec<Diagnostic> {
    let check = "launcher";
    let Some(launcher) = launcher else {
        let message = "not connected: commands wait until it is";
        let log = source.manager.log_with_launcher(source.is_service);
        let advice = format!("{log} has the cause; {}", source.start());
        return vec![Diagnostic::failure(check, message).advise(advice)];
    };
    let connected = format!("connected, process {}", launcher.pid);
    vec![
        Diagnostic::ok(check, connected),
        version(launcher, source),
        cgroups(launcher, source),
    ]
}

fn version(launcher: &LauncherState, source: Source) -> Diagnostic {
    let check = "launcher-version";
    let program = &*launcher.abilities.program;
    if program == VERSION {
        Diagnostic::ok(
            check,
            format!("the launcher and escherd are both {VERSION}"),
        )
    } else {
        let message = format!("the launcher is {program}, escherd {VERSION}");
        let advice = format!("{}; commands keep running meanwhile", source.update());
        Diagnostic::warning(check, message).advise(advice)
    }
}

fn cgroups(launcher: &LauncherState, source: Source) -> Diagnostic {
    let check = "cgroups";
    let Some(controllers) = launcher.abilities.cgroups else {
        let message = "commands have no cgroups: no limits of memory, CPU and tasks, no measurements, no pause";
        return Diagnostic::warning(check, message).advise(source.delegate());
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
    Diagnostic::warning(check, message).advise(source.delegate())
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

    const SERVICE: Source = Source {
        is_service: true,
        manager: ServiceManager::System,
    };

    fn severities(state: Option<&LauncherState>) -> Vec<(String, Severity)> {
        let diagnostics = diagnose(state, SERVICE).into_iter();
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
        let other = diagnose(Some(&launcher_of("0.0.1", None)), SERVICE);
        assert!(other[1].message.contains("0.0.1") && other[1].advice.is_some());
        assert_eq!(other[2].severity, Severity::Warning);
        let some = Controllers {
            cpu: true,
            ..Controllers::default()
        };
        let message = &diagnose(Some(&launcher_of(VERSION, Some(some))), SERVICE)[2].message;
        assert!(message.contains("memory, pids, io"), "{message}");
    }

    #[test]
    fn advice_for_a_launcher_that_escherd_has_started_names_no_other_service() {
        for (manager, restart) in [
            (ServiceManager::System, "`systemctl restart escherd`"),
            (ServiceManager::User, "`systemctl --user restart escherd`"),
            (ServiceManager::None, "start it again"),
        ] {
            let source = Source {
                is_service: false,
                manager,
            };
            let missing = diagnose(None, source);
            let old = diagnose(Some(&launcher_of("0.0.1", None)), source);
            for diagnostic in [&missing[0], &old[1]] {
                let advice = diagnostic.advice.as_deref().unwrap();
                assert!(advice.contains(restart), "{advice}");
                assert!(!advice.contains("escher-launcher"), "{advice}");
            }
        }
    }
}
