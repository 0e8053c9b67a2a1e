//! The files with settings, as they are now, against what is in force; and the folder of the policies.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::Diagnostic;

use super::Audience;
use crate::config::{ConfigError, Differences};

const POLICY_DIRECTORY: &str = "/etc/escher/policy.d";

/// What would come of reading the configuration again.
#[must_use]
pub fn configuration(
    read: &Result<Differences, ConfigError>,
    audience: Audience,
) -> Vec<Diagnostic> {
    let check = "configuration";
    match read {
        Err(error) => {
            let faults = || {
                let faults: Vec<String> =
                    error.problems().iter().map(ToString::to_string).collect();
                faults.join("; ")
            };
            let faults = audience.detail(faults);
            let message = format!("a reload would fail, and so would the next start{faults}");
            vec![Diagnostic::failure(check, message).advise(
                "what was in force before still is; set it right and see by `escherctl config check` as root, then \
                 `escherctl reload`",
            )]
        }
        Ok(differences) => {
            let mut diagnostics = Vec::new();
            if !differences.live.is_empty() {
                let names = audience.detail(|| differences.live.join(", "));
                let message = format!(
                    "a reload would change {} of the settings{names}",
                    differences.live.len()
                );
                diagnostics.push(Diagnostic::warning(check, message).advise("`escherctl reload`"));
            }
            if !differences.restart.is_empty() {
                let names = audience.detail(|| differences.restart.join(", "));
                let message = format!(
                    "a restart would change {} of the settings{names}",
                    differences.restart.len()
                );
                diagnostics.push(
                    Diagnostic::warning(check, message)
                        .advise("`systemctl restart escherd`; commands go on meanwhile"),
                );
            }
            if diagnostics.is_empty() {
                diagnostics.push(Diagnostic::ok(check, "what the files say is in force"));
            }
            diagnostics
        }
    }
}

/// Whether others can change what the policies say. They are not read here.
#[must_use]
pub fn policies(audience: Audience) -> Vec<Diagnostic> {
    policies_in(Path::new(POLICY_DIRECTORY), audience)
}

fn policies_in(directory: &Path, audience: Audience) -> Vec<Diagnostic> {
    let check = "policies";
    let shown = directory.display();
    let listed = match list(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Diagnostic::ok(
                check,
                format!("there is no {shown}: everybody runs commands as itself"),
            )];
        }
        Err(error) => {
            return vec![
                Diagnostic::warning(check, format!("{shown} cannot be looked through: {error}"))
                    .advise(format!(
                        "`chgrp escherd {shown}` and `chmod 0750 {shown}` let escherd read it"
                    )),
            ];
        }
    };
    let open: Vec<&str> = listed
        .iter()
        .filter(|(_, found)| is_open(found))
        .map(|(name, _)| name.as_str())
        .collect();
    if open.is_empty() {
        let files = listed.len() - 1;
        return vec![Diagnostic::ok(
            check,
            format!("{shown}: root's alone to change, {files} files"),
        )];
    }
    let names = audience.detail(|| open.join(", "));
    vec![
        Diagnostic::failure(check, format!("others than root can change what is in {shown}{names}")).advise(format!(
            "see that nobody else has changed it, then `chown -R root {shown}` and `chmod -R go-w {shown}`"
        )),
    ]
}

/// The directory itself and the policies in it, with what they lead to.
fn list(directory: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let mut listed = vec![(directory.display().to_string(), fs::metadata(directory)?)];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let found = fs::metadata(&path)?;
            listed.push((path.display().to_string(), found));
        }
    }
    listed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(listed)
}

/// Whether others than root can write it.
fn is_open(found: &Metadata) -> bool {
    found.uid() != 0 || found.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineConfig;
    use escher_protocol::Severity;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn faults_are_told_to_those_who_may_read_the_file() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), "[execution]\na_secret = 1\n").unwrap();
        let read = EngineConfig::from_file(file.path()).map(|_| Differences::default());
        let told = |audience| configuration(&read, audience)[0].message.to_string();
        assert!(told(Audience::Administrator).contains("a_secret"));
        assert!(!told(Audience::Anybody).contains("a_secret"));
        assert_eq!(
            configuration(&read, Audience::Anybody)[0].severity,
            Severity::Failure
        );
    }

    #[test]
    fn what_a_reload_would_change_is_told() {
        let read = Ok(Differences {
            live: vec!["execution.max_timeout_ms"],
            restart: vec!["daemon.socket", "store.durability"],
        });
        let diagnostics = configuration(&read, Audience::Administrator);
        assert_eq!(diagnostics.len(), 2);
        assert!(
            diagnostics[0]
                .message
                .ends_with("1 of the settings: execution.max_timeout_ms")
        );
        assert!(
            diagnostics[1]
                .message
                .ends_with("daemon.socket, store.durability")
        );
        let same = configuration(&Ok(Differences::default()), Audience::Anybody);
        assert_eq!(same[0].severity, Severity::Ok);
    }

    #[test]
    fn a_policy_that_others_can_write_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("policy.d");
        let verdict = || policies_in(&path, Audience::Administrator)[0].clone();
        assert_eq!(verdict().severity, Severity::Ok, "there is none");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let policy = path.join("ops.toml");
        fs::write(&policy, "").unwrap();
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
        // What is not root's can be changed by somebody else.
        let is_root = fs::metadata(&policy).unwrap().uid() == 0;
        assert_eq!(verdict().severity == Severity::Ok, is_root);
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o664)).unwrap();
        let found = verdict();
        assert_eq!(found.severity, Severity::Failure);
        assert!(found.message.contains("ops.toml"), "{found:?}");
        let told = &policies_in(&path, Audience::Anybody)[0].message;
        assert!(!told.contains("ops.toml"), "{told}");
    }
}
