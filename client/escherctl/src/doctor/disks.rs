//! The disks of an escherd that does not answer: without space it cannot start.

use std::path::{Path, PathBuf};

use escher_client::{Diagnostic, SocketOrigin};
use nix::sys::statvfs::statvfs;

use crate::render::quantity::size;

const CHECK: &str = "disk-space";

const MIB: u64 = 1024 * 1024;

/// Free bytes below which escherd may not be able to start.
const FULL_BYTES: u64 = MIB;

/// Free bytes below which it soon may not.
const ALMOST_FULL_BYTES: u64 = 64 * MIB;

/// Free inodes below which it soon may not.
const ALMOST_FULL_FILES: u64 = 1000;

/// Checks the directories that an escherd at the default sockets uses by default.
pub(super) fn check(origin: SocketOrigin) -> Vec<Diagnostic> {
    let directories = match origin {
        SocketOrigin::System => vec!["/var/lib/escher".into(), "/var/log/escher".into()],
        SocketOrigin::User => user_state_dir().into_iter().collect(),
        SocketOrigin::Program | SocketOrigin::Environment => Vec::new(),
    };
    let found = directories.iter().filter_map(|path: &PathBuf| {
        let stat = statvfs(path).ok()?;
        let bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
        let files = (stat.files() > 0).then(|| stat.files_available());
        Some(diagnose(path, bytes, files))
    });
    found.collect()
}

/// Returns `$XDG_STATE_HOME/escher`.
pub(super) fn user_state_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(variable("HOME")?.join(".local/state")));
    Some(state?.join("escher"))
}

/// `files`: the free inodes, where the file system has a fixed number of them.
fn diagnose(path: &Path, bytes: u64, files: Option<u64>) -> Diagnostic {
    let shown = path.display();
    let free = format!("{} free", size(bytes));
    let diagnostic = if bytes < FULL_BYTES || files == Some(0) {
        let message = format!("no space left on {shown}, so escherd may not be able to start");
        Diagnostic::failure(CHECK, message)
    } else if bytes < ALMOST_FULL_BYTES || files.is_some_and(|files| files < ALMOST_FULL_FILES) {
        Diagnostic::warning(CHECK, format!("{shown}: almost full, {free}"))
    } else {
        return Diagnostic::ok(CHECK, format!("{shown}: {free}"));
    };
    diagnostic.advise(format!(
        "free some space (`df -h {shown}`, `df -i {shown}`); escherd starts by itself then"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::Severity;

    #[test]
    fn the_severity_depends_on_what_is_free() {
        for (bytes, files, severity) in [
            (FULL_BYTES - 1, None, Severity::Failure),
            (FULL_BYTES, None, Severity::Warning),
            (ALMOST_FULL_BYTES - 1, None, Severity::Warning),
            (ALMOST_FULL_BYTES, None, Severity::Ok),
            (u64::MAX, Some(0), Severity::Failure),
            (u64::MAX, Some(ALMOST_FULL_FILES - 1), Severity::Warning),
            (u64::MAX, Some(ALMOST_FULL_FILES), Severity::Ok),
        ] {
            let diagnostic = diagnose(Path::new("/var/lib/escher"), bytes, files);
            assert_eq!(diagnostic.severity, severity, "{diagnostic:?}");
            assert!(diagnostic.message.contains("/var/lib/escher"));
        }
    }

    #[test]
    fn only_an_escherd_whose_directories_are_known_has_disks() {
        assert_eq!(check(SocketOrigin::Program), []);
        assert_eq!(check(SocketOrigin::Environment), []);
    }
}
