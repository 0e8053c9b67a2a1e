//! Diagnoses the configuration files, compared with the settings in force, and the policy
//! directory.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::Diagnostic;

use super::Audience;
use crate::config::{ConfigError, Differences};

const POLICY_DIRECTORY: &str = "/etc/escher/policy.d";

/// Reports what a reload of the configuration would do.
#[must_use]
pub fn diagnose_configuration(
    loaded: &Result<Differences, ConfigError>,
    audience: Audience,
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
            return vec![Diagnostic::failure(check, message).advise(
                "escherd still uses the settings from before. Correct the files until `escherctl \
                 config check`, run as root, reports nothing; then run `escherctl reload`",
            )];
        }
    };
    let changes = [
        (
            &differences.reloadable,
            "a reload",
            "run `escherctl reload`",
        ),
        (
            &differences.need_restart,
            "a restart of escherd",
            "run `systemctl restart escherd`; commands keep running meanwhile",
        ),
    ];
    let mut diagnostics = Vec::new();
    for (names, what, advice) in changes {
        if !names.is_empty() {
            let listed = audience.detail(|| names.join(", "));
            let message = format!("{what} would change {} settings{listed}", names.len());
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

/// Diagnoses who can change the policies. Does not read them.
#[must_use]
pub fn diagnose_policies(audience: Audience) -> Vec<Diagnostic> {
    diagnose_policies_in(Path::new(POLICY_DIRECTORY), audience)
}

fn diagnose_policies_in(directory: &Path, audience: Audience) -> Vec<Diagnostic> {
    let check = "policies";
    let shown = directory.display();
    let files = match list_policies(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("{shown} does not exist: all users run commands as themselves");
            return vec![Diagnostic::ok(check, message)];
        }
        Err(error) => {
            let message = format!("cannot read {shown}: {error}");
            return vec![Diagnostic::warning(check, message).advise(format!(
                "let escherd read it: `chgrp escherd {shown}` and `chmod 0750 {shown}`"
            ))];
        }
    };
    let writable: Vec<&str> = files
        .iter()
        .filter(|(_, metadata)| is_writable_for_others(metadata))
        .map(|(name, _)| name.as_str())
        .collect();
    if writable.is_empty() {
        let count = files.len() - 1;
        let message = format!("only root can change {shown}, which has {count} files");
        return vec![Diagnostic::ok(check, message)];
    }
    let names = audience.detail(|| writable.join(", "));
    let message = format!("users other than root can change policies in {shown}{names}");
    vec![Diagnostic::failure(check, message).advise(format!(
        "review the policies, then run `chown -R root {shown}` and `chmod -R go-w {shown}`"
    ))]
}

/// Lists the directory itself and the policies in it. Links are followed.
fn list_policies(directory: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let mut files = vec![(directory.display().to_string(), fs::metadata(directory)?)];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let metadata = fs::metadata(&path)?;
            files.push((path.display().to_string(), metadata));
        }
    }
    files.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

fn is_writable_for_others(metadata: &Metadata) -> bool {
    metadata.uid() != 0 || metadata.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineSettings;
    use escher_protocol::Severity;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_administrators_see_the_problems_of_files() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), "[execution]\na_secret = 1\n").unwrap();
        let loaded = EngineSettings::from_file(file.path()).map(|_| Differences::default());
        let message = |audience| {
            diagnose_configuration(&loaded, audience)[0]
                .message
                .to_string()
        };
        assert!(message(Audience::Administrator).contains("a_secret"));
        assert!(!message(Audience::Everybody).contains("a_secret"));
        assert_eq!(
            diagnose_configuration(&loaded, Audience::Everybody)[0].severity,
            Severity::Failure
        );
    }

    #[test]
    fn reports_what_a_reload_and_a_restart_would_change() {
        let loaded = Ok(Differences {
            reloadable: vec!["execution.max_timeout_ms"],
            need_restart: vec!["daemon.socket", "store.durability"],
        });
        let diagnostics = diagnose_configuration(&loaded, Audience::Administrator);
        assert_eq!(diagnostics.len(), 2);
        assert!(
            diagnostics[0]
                .message
                .ends_with("1 settings: execution.max_timeout_ms")
        );
        assert!(
            diagnostics[1]
                .message
                .ends_with("2 settings: daemon.socket, store.durability")
        );
        let same = diagnose_configuration(&Ok(Differences::default()), Audience::Everybody);
        assert_eq!(same[0].severity, Severity::Ok);
    }

    #[test]
    fn names_policies_that_others_can_change() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("policy.d");
        let diagnostic = || diagnose_policies_in(&path, Audience::Administrator)[0].clone();
        assert_eq!(diagnostic().severity, Severity::Ok, "no directory");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let policy = path.join("ops.toml");
        fs::write(&policy, "").unwrap();
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
        // Any other owner than root can change it.
        let is_root = fs::metadata(&policy).unwrap().uid() == 0;
        assert_eq!(diagnostic().severity == Severity::Ok, is_root);
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o664)).unwrap();
        let failure = diagnostic();
        assert_eq!(failure.severity, Severity::Failure);
        assert!(failure.message.contains("ops.toml"), "{failure:?}");
        let message = &diagnose_policies_in(&path, Audience::Everybody)[0].message;
        assert!(!message.contains("ops.toml"), "{message}");
    }
}
