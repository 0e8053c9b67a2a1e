//! Diagnoses the configuration files, compared with the settings in force.

use escher_protocol::Diagnostic;

use super::Audience;
use crate::config::{ConfigError, Differences};
use crate::host::service_manager::ServiceManager;

/// What kind of escherd this is.
#[derive(Debug, Clone, Copy)]
pub struct InstanceKind {
    /// Whether it is a user's own (`--user`).
    pub is_user: bool,
    /// The service manager that runs it.
    pub manager: ServiceManager,
}

/// Reports what a reload of the configuration would do.
#[must_use]
pub fn diagnose_configuration(
    loaded: &Result<Differences, ConfigError>,
    audience: Audience,
    escherd: &InstanceKind,
) -> Vec<Diagnostic> {
    let check = "configuration";
    let differences = match loaded {
        Ok(differences) => differences,
        Err(error) => {
            let problems = audience.detail(|| {
                let problems = error.problems().iter();
                let problems: Vec<String> = problems.map(ToString::to_string).collect();
                problems.join("; ")
            });
            let message = format!("a reload would fail, and so would the next start{problems}");
            let checked = if escherd.is_user {
                "`escherctl config check --user`"
            } else {
                "`escherctl config check`, run as root,"
            };
            return vec![Diagnostic::failure(check, message).advise(format!(
                "escherd still uses the settings from before. Correct the files until {checked} \
                 reports nothing; then run `escherctl reload`"
            ))];
        }
    };
    let changes = [
        (
            &differences.reloadable,
            "a reload",
            "run `escherctl reload`".to_owned(),
        ),
        (
            &differences.need_restart,
            "a restart of escherd",
            format!(
                "{}; commands keep running meanwhile",
                escherd.manager.restart()
            ),
        ),
    ];
    let mut diagnostics = Vec::new();
    for (names, what, advice) in changes {
        if !names.is_empty() {
            let listed = audience.detail(|| names.join(", "));
            let count = match names.len() {
                1 => "one setting".to_owned(),
                more => format!("{more} settings"),
            };
            let message = format!("{what} would change {count}{listed}");
            diagnostics.push(Diagnostic::warning(check, message).advise(advice));
        }
    }
    if diagnostics.is_empty() {
        diagnostics.push(Diagnostic::ok(
            check,
            "the settings of the files are in force",
        ));
    }
    diagnostics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineSettings;
    use escher_protocol::Severity;
    use std::fs;

    const SYSTEM: InstanceKind = InstanceKind {
        is_user: false,
        manager: ServiceManager::System,
    };

    #[test]
    fn only_administrators_see_the_problems_of_files() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), "[execution]\na_secret = 1\n").unwrap();
        let loaded = EngineSettings::from_file(file.path()).map(|_| Differences::default());
        let message = |audience| {
            diagnose_configuration(&loaded, audience, &SYSTEM)[0]
                .message
                .to_string()
        };
        assert!(message(Audience::Administrator).contains("a_secret"));
        assert!(!message(Audience::Everybody).contains("a_secret"));
        let own = InstanceKind {
            is_user: true,
            manager: ServiceManager::User,
        };
        let diagnostic = &diagnose_configuration(&loaded, Audience::Everybody, &own)[0];
        assert_eq!(diagnostic.severity, Severity::Failure);
        assert_eq!(
            &*diagnostic.message,
            "a reload would fail, and so would the next start"
        );
        let advice = diagnostic.advice.as_ref().unwrap();
        assert!(advice.contains("config check --user`") && !advice.contains("root"));
    }

    #[test]
    fn reports_what_a_reload_and_a_restart_would_change() {
        let loaded = Ok(Differences {
            reloadable: vec!["execution.max_timeout_ms"],
            need_restart: vec!["daemon.socket", "store.durability"],
        });
        let diagnostics = diagnose_configuration(&loaded, Audience::Administrator, &SYSTEM);
        assert_eq!(diagnostics.len(), 2);
        assert!(
            diagnostics[0]
                .message
                .ends_with("would change one setting: execution.max_timeout_ms")
        );
        assert!(
            diagnostics[1]
                .message
                .ends_with("would change 2 settings: daemon.socket, store.durability")
        );
        let same =
            diagnose_configuration(&Ok(Differences::default()), Audience::Everybody, &SYSTEM);
        assert_eq!(same[0].severity, Severity::Ok);
    }
}
