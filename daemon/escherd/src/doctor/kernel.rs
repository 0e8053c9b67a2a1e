//! Diagnoses the kernel: whether it has what escher needs. Features are tried, because
//! a version does not tell which of them a kernel has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use escher_launcher::os::kernel_support;
use escher_protocol::{Diagnostic, Severity};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::host::boot_id::BootIds;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// A file that cgroups have from some version of Linux on.
struct CgroupFile {
    name: &'static str,
    /// A file that cgroups with the same controller have in every version.
    sibling: &'static str,
    since: &'static str,
    severity: Severity,
    /// What happens without it.
    consequence: &'static str,
}

const CGROUP_FILES: [CgroupFile; 3] = [
    CgroupFile {
        name: "cgroup.kill",
        sibling: "cgroup.procs",
        since: "5.14",
        severity: Severity::Warning,
        consequence: "the processes of a command are killed one by one",
    },
    CgroupFile {
        name: "memory.peak",
        sibling: "memory.current",
        since: "5.19",
        severity: Severity::Note,
        consequence: "results lack the peak memory of a command's whole process tree",
    },
    CgroupFile {
        name: "pids.peak",
        sibling: "pids.current",
        since: "6.1",
        severity: Severity::Note,
        consequence: "results lack the peak number of a command's tasks",
    },
];

pub(super) fn diagnose(state_dir: &Path) -> Vec<Diagnostic> {
    let mut diagnostics = vec![system_calls()];
    diagnostics.extend(cgroups());
    diagnostics.push(boot_id(state_dir));
    diagnostics
}

fn system_calls() -> Diagnostic {
    let results = [
        ("pidfd_open(2)", kernel_support::try_pidfd_open()),
        ("close_range(2)", kernel_support::try_close_range()),
        ("sealed memfds (memfd_create(2))", try_sealing()),
    ];
    judge_system_calls(&results)
}

/// Judges the results of system calls. An error that an older kernel would not give comes from a
/// sandbox, which the launcher need not share.
fn judge_system_calls(results: &[(&str, io::Result<()>)]) -> Diagnostic {
    let check = "kernel";
    let is_unknown_call = |error: &io::Error| {
        let unknown = [Errno::ENOSYS, Errno::EINVAL].map(|errno| Some(errno as i32));
        unknown.contains(&error.raw_os_error())
    };
    let names = |is_wanted: &dyn Fn(&io::Result<()>) -> bool| {
        let wanted = results.iter().filter(|(_, result)| is_wanted(result));
        let names: Vec<&str> = wanted.map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let missing = names(&|result| result.as_ref().is_err_and(is_unknown_call));
    if !missing.is_empty() {
        return Diagnostic::failure(check, format!("the kernel lacks {missing}"))
            .advise("escher needs Linux 5.11 or newer");
    }
    let forbidden = names(&|result| result.is_err());
    if forbidden.is_empty() {
        Diagnostic::ok(check, format!("has {}", names(&Result::is_ok)))
    } else {
        let message =
            format!("escherd is not allowed to try {forbidden}, which the launcher needs");
        Diagnostic::note(check, message)
    }
}

fn try_sealing() -> io::Result<()> {
    let memory = memfd_create(
        c"escher-doctor",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE))?;
    Ok(())
}

fn cgroups() -> Vec<Diagnostic> {
    let check = "cgroup-v2";
    let is_unified =
        statfs(CGROUP_ROOT).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if !is_unified {
        let message = format!(
            "{CGROUP_ROOT} is not a cgroup2 file system: commands have no limits of memory, CPU and tasks, and no measurements"
        );
        return vec![Diagnostic::warning(check, message).advise(
            "boot with `systemd.unified_cgroup_hierarchy=1`, or without the parameter that selects \
             the legacy hierarchy",
        )];
    }
    let files = match sample_cgroup() {
        Some(group) => cgroup_files(|name| group.join(name).exists()),
        None => Diagnostic::note("cgroup-files", "there is no cgroup to examine"),
    };
    let mounted = Diagnostic::ok(check, format!("mounted at {CGROUP_ROOT}"));
    vec![mounted, files]
}

/// Returns this process's cgroup. The root cgroup lacks most files, so it returns one below that.
fn sample_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if !path.is_empty() {
        return Some(Path::new(CGROUP_ROOT).join(path));
    }
    let children = fs::read_dir(CGROUP_ROOT).ok()?.filter_map(Result::ok);
    let mut children = children.map(|entry| entry.path());
    children.find(|path| path.join("cgroup.procs").exists())
}

fn cgroup_files(exists: impl Fn(&str) -> bool) -> Diagnostic {
    let check = "cgroup-files";
    let missing: Vec<_> = CGROUP_FILES
        .into_iter()
        .filter(|file| exists(file.sibling) && !exists(file.name))
        .collect();
    let Some(worst) = missing.iter().map(|file| file.severity).max() else {
        return Diagnostic::ok(check, "the kernel has all files that escher uses");
    };
    let consequences: Vec<String> = missing
        .iter()
        .map(|file| {
            format!(
                "without {} (Linux {}) {}",
                file.name, file.since, file.consequence
            )
        })
        .collect();
    Diagnostic::new(check, worst, consequences.join("; "))
}

/// Diagnoses whether the next reboot will be detected.
fn boot_id(state_dir: &Path) -> Diagnostic {
    let check = "boot-id";
    match BootIds::read(state_dir) {
        Ok(boot_ids) if boot_ids.is_recorded() => Diagnostic::ok(check, "recorded"),
        Ok(_) => Diagnostic::warning(check, "not recorded yet").advise(
            "escherd records the boot ID once the store has all changes of its start: see the check \
             `store`",
        ),
        Err(error) => {
            let message = format!("cannot read the boot ID: {error}");
            Diagnostic::failure(check, message).advise(
                "without it escherd cannot tell which executions a reboot has ended: check the \
                 state directory and /proc",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_missing_cgroup_files_with_the_version_that_has_them() {
        assert_eq!(cgroup_files(|_| true).severity, Severity::Ok);
        let without = |missing: &'static [&'static str]| {
            cgroup_files(move |name: &str| !missing.contains(&name))
        };
        let old = without(&["pids.peak", "memory.peak"]);
        assert_eq!(old.severity, Severity::Note);
        assert!(old.message.contains("5.19") && old.message.contains("6.1"));
        assert_eq!(without(&["cgroup.kill"]).severity, Severity::Warning);
        let no_controller = without(&["memory.peak", "memory.current"]);
        assert_eq!(no_controller.severity, Severity::Ok, "not known");
    }

    #[test]
    fn distinguishes_an_old_kernel_from_a_sandbox() {
        let judge = |errno: Errno| judge_system_calls(&[("a", Ok(())), ("b", Err(errno.into()))]);
        let old = judge(Errno::ENOSYS);
        assert_eq!(old.severity, Severity::Failure);
        assert!(old.message.ends_with("lacks b"), "{old:?}");
        let sandboxed = judge(Errno::EPERM);
        assert_eq!(sandboxed.severity, Severity::Note);
        assert!(sandboxed.message.contains("not allowed to try b"));
    }

    #[test]
    fn this_kernel_has_all_system_calls() {
        let diagnostic = system_calls();
        assert_eq!(diagnostic.severity, Severity::Ok, "{diagnostic:?}");
    }

    #[test]
    fn warns_until_the_boot_id_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let unrecorded = boot_id(dir.path());
        assert_eq!(unrecorded.severity, Severity::Warning);
        assert_eq!(&*unrecorded.message, "not recorded yet");
        BootIds::read(dir.path()).unwrap().record().unwrap();
        assert_eq!(boot_id(dir.path()).severity, Severity::Ok);
    }
}
