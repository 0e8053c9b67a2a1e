//! What escher needs of the kernel. It is tried or looked for, not concluded from a version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use escher_launcher::os::kernel_support;
use escher_protocol::{Diagnostic, Severity};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::host::boot_id::Boot;

const CGROUPS: &str = "/sys/fs/cgroup";

/// What a control group has from some version on: the file, one that is there beside it whatever the version, the
/// version, and what is missing without it.
const CGROUP_FILES: [(&str, &str, &str, Severity, &str); 3] = [
    (
        "cgroup.kill",
        "cgroup.procs",
        "5.14",
        Severity::Warning,
        "the tree of a command is ended process by process",
    ),
    (
        "memory.peak",
        "memory.current",
        "5.19",
        Severity::Note,
        "results do not say how much memory a whole tree has used",
    ),
    (
        "pids.peak",
        "pids.current",
        "6.1",
        Severity::Note,
        "results do not say how many tasks there were at once",
    ),
];

pub(super) fn examine(state_dir: &Path) -> Vec<Diagnostic> {
    let mut diagnostics = vec![system_calls()];
    diagnostics.extend(cgroups());
    diagnostics.push(boot(state_dir));
    diagnostics
}

fn system_calls() -> Diagnostic {
    let tried = [
        ("pidfd_open(2)", kernel_support::try_pidfd_open()),
        ("close_range(2)", kernel_support::try_close_range()),
        ("sealed memfds (memfd_create(2))", try_sealing()),
    ];
    judge_system_calls(&tried)
}

/// A call that the kernel does not know says so; anything else is the word of a sandbox, in which the launcher need
/// not be.
fn judge_system_calls(tried: &[(&str, io::Result<()>)]) -> Diagnostic {
    let check = "kernel";
    let is_unknown = |error: &io::Error| {
        let unknown = [Errno::ENOSYS, Errno::EINVAL].map(|errno| Some(errno as i32));
        unknown.contains(&error.raw_os_error())
    };
    let names = |wanted: &dyn Fn(&io::Result<()>) -> bool| {
        let those = tried.iter().filter(|(_, result)| wanted(result));
        let names: Vec<&str> = those.map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let missing = names(&|result| result.as_ref().is_err_and(is_unknown));
    if !missing.is_empty() {
        return Diagnostic::failure(check, format!("it does not have {missing}"))
            .advise("escher needs Linux 5.11");
    }
    let forbidden = names(&|result| result.is_err());
    if forbidden.is_empty() {
        Diagnostic::ok(check, format!("it has {}", names(&Result::is_ok)))
    } else {
        Diagnostic::note(
            check,
            format!("escherd may not try {forbidden}; the launcher needs these"),
        )
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
        statfs(CGROUPS).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if !is_unified {
        let message = format!(
            "{CGROUPS} is no unified hierarchy: commands have no limits and no figures of their own"
        );
        return vec![Diagnostic::warning(check, message).advise(
            "boot with `systemd.unified_cgroup_hierarchy=1`, or without what asks for the old one",
        )];
    }
    let mut diagnostics = vec![Diagnostic::ok(check, format!("mounted at {CGROUPS}"))];
    match sample_cgroup() {
        Some(group) => diagnostics.push(cgroup_files(|name| group.join(name).exists())),
        None => diagnostics.push(Diagnostic::note(
            "cgroup-files",
            "there is no control group to look at",
        )),
    }
    diagnostics
}

/// A control group that has the files of one: this process's, or, if that is the root, which has few of them, one
/// right below it.
fn sample_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if !path.is_empty() {
        return Some(Path::new(CGROUPS).join(path));
    }
    let below = fs::read_dir(CGROUPS).ok()?.filter_map(Result::ok);
    let mut below = below.map(|entry| entry.path());
    below.find(|path| path.join("cgroup.procs").exists())
}

fn cgroup_files(is_there: impl Fn(&str) -> bool) -> Diagnostic {
    let check = "cgroup-files";
    let missing: Vec<_> = CGROUP_FILES
        .into_iter()
        .filter(|(file, beside, ..)| is_there(beside) && !is_there(file))
        .collect();
    let worst = missing.iter().map(|(_, _, _, severity, _)| *severity).max();
    let Some(worst) = worst else {
        return Diagnostic::ok(check, "the kernel offers all that escher uses");
    };
    let told: Vec<String> = missing
        .iter()
        .map(|(file, _, version, _, without)| format!("without {file} (Linux {version}) {without}"))
        .collect();
    Diagnostic::new(check, worst, told.join("; "))
}

/// Whether a restart of the host will be noticed.
fn boot(state_dir: &Path) -> Diagnostic {
    let check = "boot-id";
    match Boot::read(state_dir) {
        Ok(boot) if boot.is_recorded() => Diagnostic::ok(check, "this run of the host is noted"),
        Ok(_) => Diagnostic::warning(check, "it is not noted yet which run of the host this is")
            .advise("escherd notes it once all that it has found at its start is in the store: see there"),
        Err(error) => Diagnostic::failure(check, format!("it is not known which run of the host this is: {error}"))
            .advise("without it executions that a power cut has ended are not told from others: see to the state directory and to /proc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_told_with_the_version_that_has_it() {
        assert_eq!(cgroup_files(|_| true).severity, Severity::Ok);
        let without = |missing: &'static [&'static str]| {
            cgroup_files(move |name: &str| !missing.contains(&name))
        };
        let old = without(&["pids.peak", "memory.peak"]);
        assert_eq!(old.severity, Severity::Note);
        assert!(old.message.contains("5.19") && old.message.contains("6.1"));
        assert_eq!(without(&["cgroup.kill"]).severity, Severity::Warning);
        let no_controller = without(&["memory.peak", "memory.current"]);
        assert_eq!(no_controller.severity, Severity::Ok, "it cannot be told");
    }

    #[test]
    fn a_kernel_without_a_call_is_told_from_a_sandbox() {
        let judge = |errno: Errno| judge_system_calls(&[("a", Ok(())), ("b", Err(errno.into()))]);
        let old = judge(Errno::ENOSYS);
        assert_eq!(old.severity, Severity::Failure);
        assert!(old.message.ends_with("have b"), "{old:?}");
        assert_eq!(judge(Errno::EPERM).severity, Severity::Note);
    }

    #[test]
    fn this_kernel_runs_commands() {
        assert_eq!(
            system_calls().severity,
            Severity::Ok,
            "{:?}",
            system_calls()
        );
    }

    #[test]
    fn a_run_of_the_host_that_is_not_noted_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(boot(dir.path()).severity, Severity::Warning);
        Boot::read(dir.path()).unwrap().record().unwrap();
        assert_eq!(boot(dir.path()).severity, Severity::Ok);
    }
}
