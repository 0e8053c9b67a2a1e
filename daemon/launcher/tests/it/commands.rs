//! Commands to launch.

use std::path::Path;

use escher_launcher::ipc::shim_socket::SocketName;
use escher_launcher::ipc::wire::{Assignment, FIRST_ATTEMPT, Identity, LaunchSpec, LogLimits};
use escher_protocol::{Blob, ExecutionId, Parts, ProcessLimits, ResourceLimits};

/// A command as the launcher's own user, without input or timeout, and with a grace period that no
/// test reaches. What it leaves behind is killed after the default drain.
pub(crate) fn exec<A: Into<Blob>>(argv: impl IntoIterator<Item = A>) -> LaunchSpec {
    LaunchSpec {
        id: ExecutionId::generate(),
        attempt: FIRST_ATTEMPT,
        number: 7,
        submitter_uid: 0,
        argv: argv.into_iter().map(Into::into).collect(),
        environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into()],
        working_dir: "/".into(),
        falls_back_to_root_dir: false,
        identity: None,
        umask: 0o022,
        process: ProcessLimits::default(),
        merges_output: false,
        stdin: false,
        timeout_ms: None,
        kill_grace_ms: 600_000,
        drain_ms: 2_000,
        may_leave: None,
    }
}

/// A command line of the shell.
pub(crate) fn shell(text: &str) -> LaunchSpec {
    exec(["/bin/sh", "-c", text])
}

/// A command line of the shell, in which `"$0"` is `path`.
pub(crate) fn shell_with(text: &str, path: &Path) -> LaunchSpec {
    let path = Blob::from(path.as_os_str());
    exec(["/bin/sh".into(), "-c".into(), text.into(), path])
}

pub(crate) fn identity(uid: u32, gid: u32, groups: &[u32]) -> Option<Identity> {
    let groups = groups.to_vec();
    Some(Identity { uid, gid, groups })
}

/// A command with input.
pub(crate) fn with_input(text: &str) -> LaunchSpec {
    LaunchSpec {
        stdin: true,
        ..shell(text)
    }
}

/// An assignment of `spec` without a submission backup and without limits.
pub(crate) fn assignment(spec: LaunchSpec) -> Assignment {
    Assignment {
        spec,
        submission_backup: Blob::default(),
        log_limits: LogLimits::default(),
        log_budget: u64::MAX,
        output_limit: None,
        limits: ResourceLimits::default(),
        user_limits: ResourceLimits::default(),
        parts: Parts::new(),
    }
}

/// The name of the socket of a shim that has claimed the first attempt of `id`.
pub(crate) fn claim(id: ExecutionId) -> SocketName {
    let attempt = FIRST_ATTEMPT;
    SocketName::Claim { id, attempt }
}
