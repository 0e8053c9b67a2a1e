//! Diagnoses the directories: their owners and modes, and whether escherd can use them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::{Diagnostic, Severity};
use nix::unistd::{AccessFlags, eaccess, geteuid};

use crate::config::EngineSettings;

/// The requirements on a directory.
struct Requirement {
    check: &'static str,
    /// The access that escherd itself needs.
    access: AccessFlags,
    /// Mode bits that give others too much access.
    forbidden: u32,
    /// What others could do with this access.
    risk: &'static str,
    /// The recommended mode, for chmod(1).
    mode: &'static str,
}

const LOGS: Requirement = Requirement {
    check: "log-directory",
    access: AccessFlags::X_OK,
    forbidden: 0o022,
    risk: "others could change and replace logs",
    mode: "u=rwx,g=rx,o=x",
};

const STATE: Requirement = Requirement {
    check: "state-directory",
    access: AccessFlags::R_OK
        .union(AccessFlags::W_OK)
        .union(AccessFlags::X_OK),
    forbidden: 0o077,
    risk: "others could read the store",
    mode: "u=rwx,g=,o=",
};

const RUNTIME: Requirement = Requirement {
    check: "runtime-directory",
    access: AccessFlags::X_OK,
    forbidden: 0o022,
    risk: "others could replace escherd's sockets",
    mode: "u=rwx,g=rx,o=rx",
};

pub(super) fn diagnose(settings: &EngineSettings) -> Vec<Diagnostic> {
    vec![
        diagnose_directory(&LOGS, &settings.log_dir),
        diagnose_directory(&STATE, &settings.state_dir),
        diagnose_directory(&RUNTIME, &settings.runtime_dir),
    ]
}

fn diagnose_directory(requirement: &Requirement, path: &Path) -> Diagnostic {
    let check = requirement.check;
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Diagnostic::failure(check, format!("{shown}: {error}"))
                .advise("make the directory, or restart escherd, which makes it if it can");
        }
    };
    let own = geteuid();
    if let Some((severity, message)) = problem(requirement, &metadata, own.as_raw()) {
        let mode = requirement.mode;
        return Diagnostic::new(check, severity, format!("{shown} {message}")).advise(format!(
            "run `chown` to give it to escherd's user or to root, and `chmod {mode} {shown}`"
        ));
    }
    match eaccess(path, requirement.access) {
        Ok(()) => Diagnostic::ok(check, format!("{shown}, mode {}", mode(&metadata))),
        Err(error) => {
            let message = format!("escherd (user {own}) has no access to {shown}: {error}");
            Diagnostic::failure(check, message)
                .advise("correct its owner and mode, or those of the directories above it")
        }
    }
}

/// Returns what is wrong with a directory for an escherd that runs as user `own`.
fn problem(requirement: &Requirement, metadata: &Metadata, own: u32) -> Option<(Severity, String)> {
    if !metadata.is_dir() {
        return Some((Severity::Failure, "is not a directory".to_owned()));
    }
    let owner = metadata.uid();
    if owner != own && owner != 0 {
        let message =
            format!("belongs to user {owner}, neither to root nor to escherd (user {own})");
        return Some((Severity::Failure, message));
    }
    let excess = metadata.mode() & requirement.forbidden;
    let severity = match excess & 0o002 {
        0 => Severity::Warning,
        _ => Severity::Failure,
    };
    let message = || format!("has mode {}: {}", mode(metadata), requirement.risk);
    (excess != 0).then(|| (severity, message()))
}

fn mode(metadata: &Metadata) -> String {
    format!("{:04o}", metadata.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, chown};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn judges_the_mode_of_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        let severity = |requirement, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            diagnose_directory(requirement, path).severity
        };
        assert_eq!(severity(&LOGS, 0o2751), Severity::Ok);
        assert_eq!(severity(&LOGS, 0o770), Severity::Warning);
        assert_eq!(severity(&LOGS, 0o757), Severity::Failure);
        assert_eq!(severity(&STATE, 0o700), Severity::Ok);
        assert_eq!(severity(&STATE, 0o750), Severity::Warning);
        assert_eq!(severity(&RUNTIME, 0o755), Severity::Ok);
        assert_eq!(severity(&RUNTIME, 0o1777), Severity::Failure);
        let missing = diagnose_directory(&LOGS, &path.join("no"));
        assert!(missing.severity == Severity::Failure && missing.advice.is_some());
        fs::write(path.join("file"), "").unwrap();
        let file = diagnose_directory(&LOGS, &path.join("file"));
        assert!(file.message.contains("not a directory"), "{file:?}");
    }

    #[test]
    fn says_what_others_could_do_and_how_to_prevent_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        for (requirement, risk, mode) in [
            (
                &LOGS,
                "others could change and replace logs",
                "u=rwx,g=rx,o=x",
            ),
            (&STATE, "others could read the store", "u=rwx,g=,o="),
            (
                &RUNTIME,
                "others could replace escherd's sockets",
                "u=rwx,g=rx,o=rx",
            ),
        ] {
            let found = diagnose_directory(requirement, path);
            let shown = path.display();
            assert_eq!(*found.message, *format!("{shown} has mode 0777: {risk}"));
            let advice = found.advice.unwrap();
            assert!(advice.ends_with(&format!("`chmod {mode} {shown}`")));
        }
    }

    #[test]
    fn judges_the_owner_of_a_directory() {
        let metadata = fs::metadata("/").unwrap();
        assert_eq!(problem(&RUNTIME, &metadata, 12_345), None, "root's");
        let own = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            // Root's own directories are always right.
            chown(own.path(), Some(Uid::from_raw(54_321)), None).unwrap();
        }
        let metadata = fs::metadata(own.path()).unwrap();
        let (severity, message) = problem(&STATE, &metadata, 12_345).unwrap();
        assert_eq!(severity, Severity::Failure);
        let owner = format!("belongs to user {},", metadata.uid());
        assert!(message.starts_with(&owner), "{message}");
        let own = metadata.uid();
        assert_eq!(problem(&RUNTIME, &metadata, own), None, "escherd's own");
    }
}
