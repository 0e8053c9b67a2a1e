//! The shim: owns one command at a time, from its start to its exit report.
//!
//! A shim is a fork of the launcher. It waits for a [`ToShim::Assign`] with everything prepared
//! that a command needs, [supervises](supervise) the command, delivers the exit report, and waits
//! for the next. It needs neither launcher nor escherd to bring a command to its end: while escherd
//! is disconnected another can adopt the execution through the shim's
//! [listener](crate::ipc::shim_socket), and if none has by the end, the exit report goes into an
//! [exit record](crate::ipc::exit_record).
//!
//! [`spawn`] claims the execution and creates its cgroup and process, from a [`child_plan`] and in a
//! memory that [`child_memory`] chooses; [`child`] is the code of that process until it executes its
//! program. [`supervise`] is the loop.
//! [`stdin`] and [`output_pipe`] are the shim's ends of the command's pipes, [`log`] (with its
//! [`log_quota`], [`log_budget`] and [`log_forgetting`]) gets the output, [`freezer`] pauses the command, [`kill_ladder`] and
//! [`process_tree`] end it, and [`report`] delivers the exit report. [`sent_signals`] has each signal of a
//! client act once. [`link`] is the connection to escherd.

mod baseline;
mod child;
mod child_memory;
mod child_plan;
mod freezer;
mod interpreter;
mod kill_ladder;
mod link;
mod log;
mod log_budget;
mod log_forgetting;
mod log_quota;
mod output_pipe;
mod process_tree;
mod report;
mod sent_signals;
mod spawn;
mod stdin;
mod supervise;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use escher_protocol::codec::{self, MAX_PAYLOAD_BYTES};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::ipc::packet::PacketSocket;
use crate::ipc::shim_socket::ShimListener;
use crate::ipc::wire::{Assignment, MAX_SUBMISSION_BACKUP_BYTES, ToShim};
use crate::os::deadline::poll_timeout;
use crate::os::execution_cgroups::ExecutionCgroups;
use crate::os::process_name::{self, ProcessName};
use crate::os::signalfd::{self, Blocked, Signals};
use crate::sys::memory::{ChildStack, SetupProgress, shared_setup_progress};
pub(crate) use baseline::ProcessBaseline;
use child_memory::SuidDumpable;
use link::Link;
pub(crate) use supervise::MAX_GRACE_AT_STOP;

/// Bytes read from a pipe at once: what a pipe holds by default (pipe(7)).
const BUFFER_BYTES: usize = 64 * 1024;

/// The directories to which a shim writes, open.
pub(crate) struct OpenDirectories {
    pub(crate) logs: OwnedFd,
    pub(crate) exits: OwnedFd,
    pub(crate) shims: OwnedFd,
}

/// Resources of a shim that outlive a command.
struct ShimContext {
    pid: Pid,
    baseline: ProcessBaseline,
    directories: OpenDirectories,
    /// `None` where commands have no cgroups.
    cgroups: Option<ExecutionCgroups>,
    null: File,
    suid_dumpable: SuidDumpable,
    signals: SignalFd,
    /// Whether SIGTERM has come: no further command is started.
    is_stopping: Cell<bool>,
    progress: &'static SetupProgress,
    stack: ChildStack,
    buffer: Box<[u8]>,
}

/// What a shim without a running command waits for.
enum Event {
    Message(ToShim, Option<OwnedFd>),
    /// SIGTERM: the host or the service stops.
    Terminate,
    EscherdDisconnected,
}

/// Runs commands until the shim is not needed any more.
///
/// # Errors
/// When the shim cannot be set up; no command was started then. When it cannot deliver an exit
/// report.
pub(crate) fn serve(
    escherd: PacketSocket,
    listener: ShimListener,
    directories: OpenDirectories,
    cgroups: Option<ExecutionCgroups>,
    baseline: ProcessBaseline,
) -> io::Result<()> {
    process_name::set(ProcessName::Shim)?;
    // Only root may trace this process or write to its memory, which commands share for a moment.
    prctl::set_dumpable(false)?;
    prctl::set_child_subreaper(true)?;
    let mut context = ShimContext {
        pid: nix::unistd::getpid(),
        baseline,
        directories,
        cgroups,
        null: File::open("/dev/null")?,
        suid_dumpable: SuidDumpable::open(),
        // The handled signals come from the descriptor; SIGPIPE and others show as errors of system
        // calls. Children start with this mask.
        signals: signalfd::block_and_open(Blocked::All)?,
        is_stopping: Cell::new(false),
        progress: shared_setup_progress()?,
        stack: ChildStack::allocate()?,
        buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
    };
    let mut link = Link::new(escherd, listener);
    let result = serve_commands(&mut link, &mut context);
    // If an exit report is lost, the claim stays: it is all that tells escherd of the execution.
    if !matches!(result, Err(ServeError::ReportLost(_))) {
        link.remove_socket(context.directories.shims.as_fd());
    }
    result.map_err(|error| match error {
        ServeError::BetweenCommands(error) | ServeError::ReportLost(error) => error,
    })
}

/// Why a shim has failed.
enum ServeError {
    BetweenCommands(io::Error),
    /// An exit report could be delivered neither to escherd nor to the disk.
    ReportLost(io::Error),
}

fn serve_commands(link: &mut Link, context: &mut ShimContext) -> Result<(), ServeError> {
    loop {
        let assignment = await_assignment(link, context).map_err(ServeError::BetweenCommands)?;
        let Some(assignment) = assignment else {
            return Ok(());
        };
        let (id, attempt) = (assignment.spec.id, assignment.spec.attempt);
        let cgroup = spawn::cgroup_name(&assignment.spec);
        let ended = supervise::run(assignment, link, context).map_err(ServeError::ReportLost)?;
        // After the delivery, so that escherd does not wait for it.
        if let Some(cgroups) = &context.cgroups {
            cgroups.remove(&cgroup);
        }
        // A process that is left must not count as part of the next command; and a shim that could
        // not claim this execution cannot claim the next.
        let can_claim = ended.was_refused || link.has_claimed(id, attempt);
        if ended.has_processes || context.is_stopping.get() || !can_claim {
            return Ok(());
        }
    }
}

/// Waits for the next command; `None` when there will be none.
fn await_assignment(link: &mut Link, context: &ShimContext) -> io::Result<Option<Assignment>> {
    loop {
        let assignment = match wait(link, context)? {
            Event::Message(ToShim::Assign(assignment), _) => *assignment,
            Event::Message(ToShim::AssignFromMemory, memory) => read_sealed(memory)?,
            // A message for a command that has ended in the meantime.
            Event::Message(..) => continue,
            Event::Terminate | Event::EscherdDisconnected => return Ok(None),
        };
        // It would not fit into the packet for an adopting escherd.
        if assignment.submission_backup.len() > MAX_SUBMISSION_BACKUP_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        return Ok(Some(assignment));
    }
}

/// Reads an assignment from memory that its sender cannot change any more.
fn read_sealed(memory: Option<OwnedFd>) -> io::Result<Assignment> {
    let memory = memory.ok_or(io::ErrorKind::InvalidData)?;
    let seals = SealFlag::from_bits_retain(fcntl(&memory, FcntlArg::F_GET_SEALS)?);
    let needed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let memory = File::from(memory);
    let length = memory.metadata()?.len();
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if !seals.contains(needed) || length > MAX_PAYLOAD_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, 0)?;
    codec::decode(&bytes).map_err(io::Error::other)
}

/// Waits for a message of escherd or a signal.
fn wait(link: &mut Link, context: &ShimContext) -> io::Result<Event> {
    loop {
        if let Some((message, descriptor)) = link.receive() {
            return Ok(Event::Message(message, descriptor));
        }
        let Some(socket) = link.connection() else {
            return Ok(Event::EscherdDisconnected);
        };
        let mut polled = [
            PollFd::new(socket, PollFlags::POLLIN),
            PollFd::new(context.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if context.take_signals().term {
            return Ok(Event::Terminate);
        }
    }
}

/// Waits until an escherd has connected; `false` when SIGTERM has come instead.
fn await_escherd(link: &mut Link, context: &ShimContext) -> io::Result<bool> {
    while !link.accept() {
        let mut polled = vec![PollFd::new(context.signals.as_fd(), PollFlags::POLLIN)];
        let listener = link.next_readable();
        polled.extend(listener.map(|listener| PollFd::new(listener, PollFlags::POLLIN)));
        match poll(&mut polled, poll_timeout(link.deadline())) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if context.take_signals().term {
            return Ok(false);
        }
    }
    Ok(true)
}

impl ShimContext {
    fn take_signals(&self) -> Signals {
        let signals = signalfd::read_pending(&self.signals);
        self.is_stopping.set(self.is_stopping.get() || signals.term);
        signals
    }
}
