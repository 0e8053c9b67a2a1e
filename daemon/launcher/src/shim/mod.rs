//! The shim: owns one command at a time, from its start to its result.
//!
//! A shim is a fork of the launcher. It waits for a [`ToShim::Assign`] with everything made ready that a
//! command needs, runs the [`supervise`], sees to it that the result is safe, and waits for the next. It
//! needs neither launcher nor escherd to bring a command to its end: while escherd is gone, another can take
//! the execution over by the shim's [door](crate::ipc::shim_listener), and if none has by then, the result goes into an
//! [exit record](crate::ipc::exit_record).
//!
//! [`start`] claims the execution and makes its cgroup, [`spawn`] its process, and [`child`] is what that does until
//! its program runs; [`supervise`] is the loop; [`stdin`] and [`log`] (with its [`log_quota`]) are the command's descriptors,
//! [`kill_ladder`] and [`process_tree`] its end, [`freezer`] a stop on the way there, [`report`] what comes after it; [`link`] is escherd.

mod child;
mod freezer;
mod kill_ladder;
mod link;
mod log;
mod log_quota;
mod process_tree;
mod report;
mod spawn;
mod start;
mod stdin;
mod supervise;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use escher_protocol::codec::{self, MAX_PAYLOAD_BYTES};
use escher_protocol::{Canceller, Leftovers};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::ipc::packet::PacketSocket;
use crate::ipc::shim_listener::Door;
use crate::ipc::wire::{Assignment, EndCause, MAX_SUBMISSION_BACKUP_BYTES, ToShim};
use crate::os::cgroup::Cgroups;
use crate::os::deadline;
use crate::os::signalfd::{self, Others, Signals};
use crate::sys::memory::{ChildStack, Progress, shared_progress};
use crate::sys::process::ChildMemory;
use link::Link;

/// Bytes taken from a pipe at once: what a pipe holds by default (pipe(7)).
const BUFFER_BYTES: usize = 64 * 1024;

/// What the launcher found out about itself and every command has to be freed of, or be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    /// Where a child runs until it executes its program.
    pub(crate) child_memory: ChildMemory,
    /// Whether priority or out-of-memory score differ from 0 and can be set back.
    pub(crate) reset_priority: bool,
    /// Hard limit of open descriptors.
    pub(crate) open_files_hard: u64,
}

/// The directories that a shim writes to.
pub(crate) struct Directories {
    pub(crate) logs: OwnedFd,
    pub(crate) exits: OwnedFd,
    pub(crate) shims: OwnedFd,
}

/// Everything that outlives one execution.
struct Workshop {
    /// The shim's process id.
    pid: Pid,
    surroundings: Surroundings,
    directories: Directories,
    /// `None` where commands have no cgroups.
    cgroups: Option<Cgroups>,
    null: File,
    signals: SignalFd,
    /// Whether SIGTERM has come: what runs is the last.
    stopping: Cell<bool>,
    progress: &'static Progress,
    stack: ChildStack,
    buffer: Box<[u8]>,
}

/// What a shim hears while it waits.
enum Wake {
    Message(ToShim, Option<OwnedFd>),
    /// SIGTERM: the host or the service stops.
    Stop,
    /// escherd is gone.
    Alone,
}

/// The life of a shim. Returns when it is not needed any more.
///
/// # Errors
/// When it cannot be set up; no command was started then.
pub(crate) fn serve(
    socket: PacketSocket,
    door: Door,
    directories: Directories,
    cgroups: Option<Cgroups>,
    surroundings: Surroundings,
) -> io::Result<()> {
    prctl::set_name(c"escher-shim")?;
    // Nobody but root may trace this process or write its memory: commands share it for a moment.
    prctl::set_dumpable(false)?;
    prctl::set_child_subreaper(true)?;
    let mut workshop = Workshop {
        pid: nix::unistd::getpid(),
        surroundings,
        directories,
        cgroups,
        null: File::open("/dev/null")?,
        // Those that matter are read from the descriptor, and SIGPIPE and its like show as errors. The mask is the
        // child's first one, too.
        signals: signalfd::listen(Others::Blocked)?,
        stopping: Cell::new(false),
        progress: shared_progress()?,
        stack: ChildStack::allocate()?,
        buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
    };
    let mut link = Link::new(socket, door);
    let result = serve_executions(&mut link, &mut workshop);
    // Not while it has an execution whose report nobody has: then the claim is all that tells of it.
    if !matches!(result, Err(Failure::WithReport(_))) {
        link.remove_door(workshop.directories.shims.as_fd());
    }
    result.map_err(|failure| match failure {
        Failure::Idle(error) | Failure::WithReport(error) => error,
    })
}

/// Where a shim has failed.
enum Failure {
    /// Between two executions.
    Idle(io::Error),
    /// It could not bring the report of one to safety.
    WithReport(io::Error),
}

fn serve_executions(link: &mut Link, workshop: &mut Workshop) -> Result<(), Failure> {
    while let Some(assignment) = await_assignment(link, workshop).map_err(Failure::Idle)? {
        let (id, attempt) = (assignment.spec.id, assignment.spec.attempt);
        let ended = supervise::run(assignment, link, workshop);
        let left_over = ended.report.leftovers == Leftovers::Unkillable;
        let was_refused = matches!(ended.report.cause, EndCause::UnsupportedPart { .. });
        let handed_over = ended.hand_over(link, workshop);
        handed_over.map_err(Failure::WithReport)?;
        // Not before: nobody waits for it.
        if let Some(cgroups) = &workshop.cgroups {
            cgroups.remove(id);
        }
        // What is left over must not count as part of the next execution; and a shim that could not say
        // what it had would be no use to the next either.
        let could_claim = was_refused || link.has_claimed(id, attempt);
        if left_over || workshop.stopping.get() || !could_claim {
            break;
        }
    }
    Ok(())
}

/// Waits for the next command; `None` when there will be none.
fn await_assignment(link: &mut Link, workshop: &Workshop) -> io::Result<Option<Assignment>> {
    loop {
        let assignment = match wait(link, workshop)? {
            Wake::Message(ToShim::Assign(assignment), _) => *assignment,
            Wake::Message(ToShim::AssignFromMemory, memory) => read_sealed(memory)?,
            // For a command that has ended by itself in the meantime.
            Wake::Message(..) => continue,
            Wake::Stop | Wake::Alone => return Ok(None),
        };
        // It would not fit into the packet for another escherd.
        if assignment.submission_backup.len() > MAX_SUBMISSION_BACKUP_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        return Ok(Some(assignment));
    }
}

/// Reads what came in memory that its sender cannot change any more.
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

/// Waits for escherd or for a signal.
fn wait(link: &mut Link, workshop: &Workshop) -> io::Result<Wake> {
    loop {
        if let Some((message, descriptor)) = link.receive() {
            return Ok(Wake::Message(message, descriptor));
        }
        let Some(socket) = link.descriptor() else {
            return Ok(Wake::Alone);
        };
        let mut waited = [
            PollFd::new(socket, PollFlags::POLLIN),
            PollFd::new(workshop.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if workshop.take_signals().term {
            return Ok(Wake::Stop);
        }
    }
}

/// Waits for an escherd where there is none; `false` when SIGTERM came instead.
fn await_escherd(link: &mut Link, workshop: &Workshop) -> io::Result<bool> {
    while !link.let_in() {
        let mut waited = vec![PollFd::new(workshop.signals.as_fd(), PollFlags::POLLIN)];
        waited.extend(
            link.awaited()
                .map(|door| PollFd::new(door, PollFlags::POLLIN)),
        );
        match poll(&mut waited, deadline::timeout(link.deadline())) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if workshop.take_signals().term {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Workshop {
    fn take_signals(&self) -> Signals {
        let signals = signalfd::take(&self.signals);
        self.stopping.set(self.stopping.get() || signals.term);
        signals
    }
}

/// The cause of an end that a SIGTERM to the shim brings.
fn host_stops() -> EndCause {
    EndCause::Cancelled(Canceller::Host)
}
