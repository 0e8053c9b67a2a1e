//! The directories: whether they are there, whose they are, who can get in, and what room there is.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use escher_protocol::{Diagnostic, Severity};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, eaccess, geteuid};

use super::bytes;
use crate::config::EngineConfig;

const MIB: u64 = 1024 * 1024;

/// Room below which a disk is about to be full, whatever is set.
const LITTLE_ROOM: u64 = 64 * MIB;

/// Room below which nothing more can be relied on to be written.
const NO_ROOM: u64 = MIB;

/// The same for files: an execution takes up to three.
const FEW_FILES: u64 = 1000;

/// What a directory has to be like.
struct Rule {
    check: &'static str,
    /// What escherd itself has to be able to do there.
    access: AccessFlags,
    /// What others may not do there: bits of its mode.
    forbidden: u32,
    /// Why not.
    because: &'static str,
    /// The mode that is right.
    mode: &'static str,
}

const LOGS: Rule = Rule {
    check: "log-directory",
    access: AccessFlags::X_OK,
    forbidden: 0o022,
    because: "others could change and replace logs",
    mode: "u=rwx,g=rx,o=",
};

const STATE: Rule = Rule {
    check: "state-directory",
    access: AccessFlags::R_OK
        .union(AccessFlags::W_OK)
        .union(AccessFlags::X_OK),
    forbidden: 0o077,
    because: "what is in the store is for escherd alone",
    mode: "u=rwx,g=,o=",
};

const RUNTIME: Rule = Rule {
    check: "runtime-directory",
    access: AccessFlags::X_OK,
    forbidden: 0o022,
    because: "others could put a socket of theirs in the place of escherd's",
    mode: "u=rwx,g=rx,o=rx",
};

/// A guard keeps `min_free_bytes` free where the logs are; 0: there is none.
pub(super) fn examine(config: &EngineConfig, min_free_bytes: u64) -> Vec<Diagnostic> {
    // A launcher that is a service of its own writes logs, and where escherd is confined it could not.
    let writer = match config.launcher_socket {
        Some(_) => Writer::Launcher,
        None => Writer::Escherd,
    };
    let guard = Guard {
        bytes: min_free_bytes,
    };
    vec![
        judge_directory(&LOGS, &config.log_dir),
        judge_directory(&STATE, &config.state_dir),
        judge_directory(&RUNTIME, &config.runtime_dir),
        judge_space("log-space", &config.log_dir, &guard, writer),
        judge_space(
            "state-space",
            &config.state_dir,
            &Guard { bytes: 0 },
            Writer::Escherd,
        ),
    ]
}

fn judge_directory(rule: &Rule, path: &Path) -> Diagnostic {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => Diagnostic::failure(rule.check, format!("{shown}: {error}"))
            .advise("make it, or restart escherd, which does where it may"),
        Ok(found) => match fault(rule, &found, geteuid().as_raw()) {
            Some((severity, message)) => {
                Diagnostic::new(rule.check, severity, format!("{shown} {message}")).advise(format!(
                    "`chown` it to the user of escherd or to root, and `chmod {} {shown}`",
                    rule.mode
                ))
            }
            None => match eaccess(path, rule.access) {
                Ok(()) => Diagnostic::ok(
                    rule.check,
                    format!("{shown} is there, with mode {}", mode(&found)),
                ),
                Err(error) => Diagnostic::failure(
                    rule.check,
                    format!(
                        "escherd, which is user {}, has no access to {shown}: {error}",
                        geteuid()
                    ),
                )
                .advise("see to its owner and mode, and to those of the directories above it"),
            },
        },
    }
}

/// What is wrong with the directory that was `found`, for an escherd of the user `own`.
fn fault(rule: &Rule, found: &Metadata, own: u32) -> Option<(Severity, String)> {
    if !found.is_dir() {
        return Some((Severity::Failure, "is no directory".to_owned()));
    }
    if found.uid() != own && found.uid() != 0 {
        let message = format!(
            "belongs to user {}, neither to root nor to user {own}, which escherd is",
            found.uid()
        );
        return Some((Severity::Failure, message));
    }
    let open = found.mode() & rule.forbidden;
    let severity = match open & 0o002 {
        0 => Severity::Warning,
        _ => Severity::Failure,
    };
    (open != 0).then(|| {
        (
            severity,
            format!("has mode {}: {}", mode(found), rule.because),
        )
    })
}

fn mode(found: &Metadata) -> String {
    format!("{:04o}", found.mode() & 0o7777)
}

/// What is to stay free.
struct Guard {
    bytes: u64,
}

/// What there is, for the unprivileged (statvfs(3)).
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    files: u64,
    /// Whether the file system counts files at all.
    counts_files: bool,
    is_read_only: bool,
}

/// Who writes somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// escherd, or a child of it that sees what it sees.
    Escherd,
    Launcher,
}

fn judge_space(check: &'static str, path: &Path, guard: &Guard, writer: Writer) -> Diagnostic {
    let shown = path.display();
    let room = match statvfs(path) {
        Err(error) => {
            return Diagnostic::failure(
                check,
                format!("the room at {shown} is not known: {error}"),
            );
        }
        Ok(found) => Room {
            bytes: found
                .blocks_available()
                .saturating_mul(found.fragment_size()),
            files: found.files_available(),
            counts_files: found.files() > 0,
            is_read_only: match writer {
                Writer::Escherd => found.flags().contains(FsFlags::ST_RDONLY),
                Writer::Launcher => is_of_a_read_only_disk(path),
            },
        },
    };
    let (severity, message) = judge_room(room, guard);
    let diagnostic = Diagnostic::new(check, severity, format!("{shown}: {message}"));
    match severity {
        Severity::Ok => diagnostic,
        _ if room.is_read_only => diagnostic.advise(
            "`dmesg` may say why; once it is right, `mount -o remount,rw` makes it writable again",
        ),
        _ => diagnostic.advise(format!(
            "make room there, by `escherctl prune --until 7d` for example, or have the directory on a larger disk \
             (`df -h {shown}`, `df -i {shown}`)"
        )),
    }
}

/// Whether the file system of `path` is read-only for everybody, and not just where escherd sees it.
fn is_of_a_read_only_disk(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = fs::metadata(path).map(|found| found.dev());
    let device = device.map(|device| format!("{}:{}", major(device), minor(device)));
    device.is_ok_and(|device| {
        let mut lines = mounts.lines();
        lines.any(|line| is_read_only_device(line, &device))
    })
}

/// Whether a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)) has this device, and its file system is read-only.
fn is_read_only_device(line: &str, device: &str) -> bool {
    let is_its = line.split(' ').nth(2) == Some(device);
    let options = line.rsplit(' ').next().unwrap_or_default();
    is_its && options.split(',').next() == Some("ro")
}

fn judge_room(room: Room, guard: &Guard) -> (Severity, String) {
    let free = bytes(room.bytes);
    if room.is_read_only {
        return (Severity::Failure, "the file system is read-only".to_owned());
    }
    if guard.bytes > 0 && room.bytes <= guard.bytes {
        let least = bytes(guard.bytes);
        let message =
            format!("{free} are free, and log_min_free_bytes is {least}: logs take nothing more");
        return (Severity::Failure, message);
    }
    if room.bytes < NO_ROOM {
        return (Severity::Failure, format!("it is full: {free} are free"));
    }
    if room.counts_files && room.files == 0 {
        return (Severity::Failure, "no inode is free".to_owned());
    }
    if room.bytes < LITTLE_ROOM.max(guard.bytes.saturating_mul(2)) {
        return (Severity::Warning, format!("only {free} are free"));
    }
    if room.counts_files && room.files < FEW_FILES {
        return (
            Severity::Warning,
            format!("only {} inodes are free", room.files),
        );
    }
    (Severity::Ok, format!("{free} are free"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, chown};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_disk_that_is_read_only_for_all_is_told_from_a_view_of_it_that_is() {
        let line = "36 35 98:0 /mnt1 /mnt2 ro,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert!(!is_read_only_device(line, "98:0"));
        let disk = line.replace(" rw,errors", " ro,errors");
        assert!(is_read_only_device(&disk, "98:0"));
        assert!(!is_read_only_device(&disk, "98:1"));
        assert!(!is_read_only_device("", "98:0"));
    }

    #[test]
    fn a_directory_that_others_can_write_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        let verdict = |rule, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            judge_directory(rule, path).severity
        };
        assert_eq!(verdict(&LOGS, 0o2750), Severity::Ok);
        assert_eq!(verdict(&LOGS, 0o770), Severity::Warning);
        assert_eq!(verdict(&LOGS, 0o757), Severity::Failure);
        assert_eq!(verdict(&STATE, 0o700), Severity::Ok);
        assert_eq!(verdict(&STATE, 0o750), Severity::Warning);
        assert_eq!(verdict(&RUNTIME, 0o755), Severity::Ok);
        assert_eq!(verdict(&RUNTIME, 0o1777), Severity::Failure);
        let missing = judge_directory(&LOGS, &path.join("no"));
        assert!(missing.severity == Severity::Failure && missing.advice.is_some());
        fs::write(path.join("file"), "").unwrap();
        let file = judge_directory(&LOGS, &path.join("file"));
        assert!(file.message.contains("no directory"), "{file:?}");
    }

    #[test]
    fn a_directory_of_somebody_else_is_told() {
        let found = fs::metadata("/").unwrap();
        assert_eq!(fault(&RUNTIME, &found, 12_345), None, "root's");
        let own = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            // What is root's is never wrong.
            chown(own.path(), Some(Uid::from_raw(54_321)), None).unwrap();
        }
        let found = fs::metadata(own.path()).unwrap();
        let (severity, message) = fault(&STATE, &found, 12_345).unwrap();
        assert_eq!(severity, Severity::Failure);
        let owner = format!("belongs to user {},", found.uid());
        assert!(message.starts_with(&owner), "{message}");
        assert_eq!(fault(&RUNTIME, &found, found.uid()), None, "escherd's own");
    }

    #[test]
    fn little_room_is_told_before_there_is_none() {
        let room = |bytes, files| Room {
            bytes,
            files,
            counts_files: true,
            is_read_only: false,
        };
        let judge = |room, guard| judge_room(room, &Guard { bytes: guard }).0;
        assert_eq!(judge(room(100 * MIB, 5000), 0), Severity::Ok);
        assert_eq!(judge(room(100 * MIB, 5000), 60 * MIB), Severity::Warning);
        assert_eq!(judge(room(100 * MIB, 5000), 100 * MIB), Severity::Failure);
        assert_eq!(judge(room(10 * MIB, 5000), 0), Severity::Warning);
        assert_eq!(judge(room(0, 5000), 0), Severity::Failure);
        assert_eq!(judge(room(100 * MIB, 5), 0), Severity::Warning);
        assert_eq!(judge(room(100 * MIB, 0), 0), Severity::Failure);
        let uncounted = Room {
            counts_files: false,
            ..room(100 * MIB, 0)
        };
        assert_eq!(judge(uncounted, 0), Severity::Ok);
        let read_only = Room {
            is_read_only: true,
            ..room(100 * MIB, 5000)
        };
        assert_eq!(judge(read_only, 0), Severity::Failure);
    }
}
