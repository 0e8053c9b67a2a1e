//! From an assignment to a running command: the claim, a cgroup, a process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use escher_protocol::{Exit, StartStage, Timestamp};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2};

use super::ShimContext;
use super::child::run_child;
use super::child_memory;
use super::child_plan::{ChildDescriptors, OwnedPlan};
use super::link::Link;
use super::output_pipe::OutputPipe;
use crate::ipc::wire::{Assignment, Identity, LaunchSpec, MissingInterpreter};
use crate::os::cgroup::Cgroup;
use crate::os::execution_cgroups::{CgroupLimits, CgroupName, ExecutionCgroups};
use crate::sys::memory::SetupProgress;
use crate::sys::process::{ChildMemory, clone_child};

/// When a command was started, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartTime {
    pub(super) time: Timestamp,
    pub(super) instant: Instant,
}

impl StartTime {
    pub(super) fn now() -> Self {
        StartTime {
            time: Timestamp::now(),
            instant: Instant::now(),
        }
    }
}

/// A main process that was created, and the shim's ends of its pipes.
pub(super) struct SpawnedCommand {
    pub(super) pid: Pid,
    pub(super) stdout: OutputPipe,
    /// `None` where standard error is the pipe of standard output.
    pub(super) stderr: Option<OutputPipe>,
    /// Does not block; `None` where standard input is `/dev/null`.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) setup: ChildSetup,
}

/// The set-up of a child, until it executes its program.
///
/// Owns the plan that the child reads, possibly in shared memory: it lives until the set-up is over.
pub(super) struct ChildSetup {
    /// Reports end of file once the child has executed its program or died.
    end: OwnedFd,
    progress: &'static SetupProgress,
    plan: Option<Box<OwnedPlan>>,
}

/// Result of a child's set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetupResult {
    /// The child has executed its program.
    Executed,
    /// A step has failed with an errno.
    Failed(StartStage, i32),
    /// The child has reached this step. It is still at work there, or has died.
    Unfinished(StartStage),
}

impl ChildSetup {
    /// Returns a descriptor that is readable once the set-up is over.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Drops the plan. To be called once the set-up is over: the child has left the shim's memory
    /// then, and the environment of its command has no place there any more.
    pub(super) fn drop_plan(&mut self) {
        self.plan = None;
    }

    /// Returns the interpreter that is missing, if that is why the program could not be executed. Like
    /// the result it is final once [`ChildSetup::descriptor`] is readable.
    pub(super) fn missing_interpreter(&self) -> Option<MissingInterpreter> {
        Some(MissingInterpreter {
            interpreter: self.progress.interpreter.load()?.into(),
            script: self.progress.script.load().map(Into::into),
        })
    }

    /// Returns the result. It is final once [`ChildSetup::descriptor`] is readable.
    pub(super) fn result(&self) -> SetupResult {
        let progress = self.progress;
        let index = progress.stage.load(Ordering::Acquire) as usize;
        let stage = StartStage::TABLE
            .get(index)
            .map_or(StartStage::Prepare, |row| row.0);
        match (progress.errno.load(Ordering::Acquire), stage) {
            (0, StartStage::Exec) => SetupResult::Executed,
            (0, stage) => SetupResult::Unfinished(stage),
            (errno, stage) => SetupResult::Failed(stage, errno),
        }
    }
}

/// Claims the execution, creates its cgroup, and starts its command. The claim comes first: without
/// one nothing was started.
///
/// # Errors
/// The exit of a command that could not be started.
pub(super) fn claim_and_spawn(
    assignment: &mut Assignment,
    link: &mut Link,
    context: &ShimContext,
) -> Result<(SpawnedCommand, Option<Cgroup>), Exit> {
    let memory = child_memory::choose(assignment, &context.baseline, &context.suid_dumpable);
    let (name, limits) = (cgroup_name(&assignment.spec), cgroup_limits(assignment));
    let spec = &assignment.spec;
    let claimed = link.claim(context.directories.shims.as_fd(), spec.id, spec.attempt);
    claimed.map_err(not_started(StartStage::Prepare))?;
    let cgroup = create_cgroup(&name, limits, context.cgroups.as_ref());
    let cgroup = cgroup.map_err(not_started(StartStage::Limits))?;
    let cgroup_procs = cgroup.as_ref().map(Cgroup::open_procs).transpose();
    let cgroup_procs = cgroup_procs.map_err(not_started(StartStage::Limits))?;
    let options = SpawnOptions {
        memory,
        cgroup_procs: cgroup_procs.as_ref().map(AsFd::as_fd),
    };
    let spec = &mut assignment.spec;
    let spawned = spawn(spec, options, context).map_err(not_started(StartStage::Prepare))?;
    Ok((spawned, cgroup))
}

fn not_started(stage: StartStage) -> impl Fn(io::Error) -> Exit {
    move |error| Exit::NotStarted {
        stage,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Returns the name of a command's cgroup.
pub(super) fn cgroup_name(spec: &LaunchSpec) -> CgroupName {
    CgroupName::new(spec.submitter_uid, spec.number, spec.id)
}

/// Returns the limits of a command's cgroup and of its user's.
pub(super) fn cgroup_limits(assignment: &Assignment) -> CgroupLimits<'_> {
    CgroupLimits {
        execution: &assignment.limits,
        user: &assignment.user_limits,
    }
}

/// Creates the cgroup of a command. A command without limits runs without one where it cannot be
/// created.
fn create_cgroup(
    name: &CgroupName,
    limits: CgroupLimits<'_>,
    cgroups: Option<&ExecutionCgroups>,
) -> io::Result<Option<Cgroup>> {
    let created = match cgroups {
        Some(cgroups) => cgroups.create(name, limits).map(Some),
        None => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    };
    match created {
        Err(_) if limits.are_unlimited() => Ok(None),
        created => created,
    }
}

/// Lets the user of the command open its end of a pipe by name, as `/dev/stdout` (proc_pid_fd(5)):
/// for what the command does with it, and no more. A command that reads its own output back would
/// take it from the log. A failure changes nothing for those who do not open it by name.
fn allow_opening_by_name(end: &OwnedFd, identity: Option<&Identity>, mode: Mode) {
    let owner = identity.map(|identity| (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid)));
    if let Some((uid, gid)) = owner
        && fchown(end, Some(uid), Some(gid)).is_err()
    {
        return;
    }
    let _ = fchmod(end, mode);
}

/// How the process of a command is created.
#[derive(Debug, Clone, Copy)]
struct SpawnOptions<'a> {
    memory: ChildMemory,
    /// `cgroup.procs` of the cgroup that the process enters.
    cgroup_procs: Option<BorrowedFd<'a>>,
}

fn spawn(
    spec: &mut LaunchSpec,
    options: SpawnOptions<'_>,
    context: &ShimContext,
) -> io::Result<SpawnedCommand> {
    let (stdout, child_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let stdout = OutputPipe::new(stdout)?;
    let (stderr, child_stderr) = if spec.merges_output {
        (None, None)
    } else {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(OutputPipe::new(reading)?), Some(writing))
    };
    let (setup_end, child_setup_end) = pipe2(OFlag::O_CLOEXEC)?;
    let (stdin, child_stdin) = if spec.stdin {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&writing, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        (Some(writing), Some(reading))
    } else {
        (None, None)
    };
    let output_mode = Mode::S_IWUSR;
    for (end, mode) in [
        (Some(&child_stdout), output_mode),
        (child_stderr.as_ref(), output_mode),
        (child_stdin.as_ref(), Mode::S_IRUSR),
    ] {
        if let Some(end) = end {
            allow_opening_by_name(end, spec.identity.as_ref(), mode);
        }
    }
    let input = child_stdin
        .as_ref()
        .map_or(context.null.as_fd(), AsFd::as_fd);
    let descriptors = ChildDescriptors {
        standard: [
            input,
            child_stdout.as_fd(),
            child_stderr.as_ref().unwrap_or(&child_stdout).as_fd(),
        ],
        setup_end: child_setup_end.as_fd(),
        cgroup_procs: options.cgroup_procs,
    };
    let plan = Box::new(OwnedPlan::new(spec, descriptors, context)?);

    let progress = context.progress;
    progress.reset(StartStage::Prepare as u32);
    // SAFETY: `run_child` upholds what `clone_child` demands of an entry. The plan is boxed and not
    // changed any more, and `ChildSetup` owns it for as long as the child may read it: the
    // supervisor leaks it where the set-up never ends. The stack serves one child at a time: a shim
    // has one command at a time, and starts none after one whose set-up never ended.
    let pid = unsafe { clone_child(&context.stack, options.memory, run_child, &plan.plan) }?;
    // From now on only the child has the writing end.
    drop(child_setup_end);
    Ok(SpawnedCommand {
        pid,
        stdout,
        stderr,
        stdin,
        setup: ChildSetup {
            end: setup_end,
            progress,
            plan: Some(plan),
        },
    })
}
