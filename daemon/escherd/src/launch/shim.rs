//! One shim, as escherd sees it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::shim_socket::{self, SocketName};
use escher_launcher::ipc::wire::{
    Assignment, FIRST_ATTEMPT, FromShim, KNOWN_PARTS, MAX_PACKET_BYTES, MAX_SHIM_MESSAGE_BYTES,
    ShimPhase, ShimState, ToShim, WIRE_VERSION,
};
use escher_protocol::{ExecutionId, Leftovers, Timestamp, codec};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::async_packet_socket::AsyncPacketSocket;
use crate::scheduler::{Scheduler, SchedulerHandle};

/// A shim that is connected.
#[derive(Debug)]
pub(super) struct Shim {
    socket: AsyncPacketSocket,
    pid: u32,
    /// The execution that the shim has, or had last.
    last_execution: Option<ExecutionId>,
    /// Length of the longest message that the shim may send, in bytes.
    max_message_bytes: usize,
    /// How often escherd has reconnected to the shim since its last launch.
    reconnections: u32,
}

/// Most reconnections to a shim with the same execution: one that drops every connection is not
/// worth more.
const MAX_RECONNECTIONS: u32 = 5;

/// The end of a [`relay`].
pub(super) enum RelayEnd {
    /// The shim is ready again.
    Ready(Shim),
    /// The end of the execution is recorded, and its shim stays with what it has left.
    Left {
        /// Which execution.
        id: ExecutionId,
        /// The shim.
        pid: u32,
    },
    /// The shim has disconnected: it is dead, or has dropped an escherd that did not read.
    Disconnected(DisconnectedShim),
}

/// A shim that has disconnected.
pub(super) struct DisconnectedShim {
    pub(super) id: ExecutionId,
    pub(super) pid: u32,
    reconnections: u32,
}

impl DisconnectedShim {
    /// Connects to the shim by its socket in `directory`, as to a shim of an earlier escherd. Its first
    /// message will be its state.
    ///
    /// # Errors
    /// Those of [`shim_socket::connect`]: the shim is dead. When it has disconnected too often.
    pub(super) fn reconnect(&self, directory: &Path) -> io::Result<Shim> {
        if self.reconnections >= MAX_RECONNECTIONS {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (id, attempt) = (self.id, FIRST_ATTEMPT);
        let directory = File::open(directory)?;
        let socket = shim_socket::connect(&directory, &SocketName::Claim { id, attempt })?;
        Ok(Shim {
            pid: self.pid,
            reconnections: self.reconnections + 1,
            ..Shim::silent(AsyncPacketSocket::new(socket)?, id)
        })
    }
}

impl DisconnectedShim {
    /// Returns whether the shim stays with what its execution, which is over, has left: until the end is recorded
    /// it has a claim, too.
    pub(super) fn has_left_processes(&self, directory: &Path) -> bool {
        let is_left =
            |name: &SocketName| matches!(name, SocketName::Left { id, .. } if *id == self.id);
        let is_claim =
            |name: &SocketName| matches!(name, SocketName::Claim { id, .. } if *id == self.id);
        let sockets = File::open(directory).and_then(shim_socket::list);
        sockets.is_ok_and(|names| names.iter().any(is_left) && !names.iter().any(is_claim))
    }
}

impl Shim {
    /// Makes the shim that was forked and has no command yet.
    pub(super) fn new(socket: PacketSocket, pid: u32) -> io::Result<Self> {
        Ok(Shim {
            socket: AsyncPacketSocket::new(socket)?,
            pid,
            last_execution: None,
            max_message_bytes: MAX_SHIM_MESSAGE_BYTES,
            reconnections: 0,
        })
    }

    /// Makes the shim of an earlier escherd that has reported its state.
    pub(super) fn adopted(socket: AsyncPacketSocket, state: &ShimState) -> Self {
        Shim {
            socket,
            pid: state.pid,
            last_execution: Some(state.id),
            max_message_bytes: MAX_SHIM_MESSAGE_BYTES,
            reconnections: 0,
        }
    }

    /// Makes the shim of an earlier escherd that has an execution and has not reported its state. Its first
    /// message will be [`FromShim::Adoptable`], which may be longer than others.
    pub(super) fn silent(socket: AsyncPacketSocket, id: ExecutionId) -> Self {
        Shim {
            socket,
            pid: 0,
            last_execution: Some(id),
            max_message_bytes: MAX_PACKET_BYTES,
            reconnections: 0,
        }
    }

    /// Returns the process id; 0 if the shim has not reported it.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn last_execution(&self) -> Option<ExecutionId> {
        self.last_execution
    }

    /// Sends the shim a command: as a packet, or, if the assignment does not fit into one, in memory
    /// that comes with the packet. After an error the shim has not seen the command.
    pub(super) fn launch(&mut self, assignment: &Assignment) -> io::Result<()> {
        let packet = ToShim::encode_assign(assignment).map_err(io::Error::other)?;
        if packet.len() <= MAX_PACKET_BYTES {
            self.socket.send_now(&packet, None)?;
        } else {
            let memory = sealed_memory(&codec::encode(assignment).map_err(io::Error::other)?)?;
            let packet = codec::encode(&ToShim::AssignFromMemory).map_err(io::Error::other)?;
            self.socket.send_now(&packet, Some(memory.as_fd()))?;
        }
        self.last_execution = Some(assignment.spec.id);
        self.reconnections = 0;
        Ok(())
    }
}

/// Makes memory that holds `bytes` and cannot be changed (memfd_create(2), F_ADD_SEALS in fcntl(2)).
fn sealed_memory(bytes: &[u8]) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut memory = File::from(memfd_create(c"escher-launch", flags)?);
    memory.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory)
}

/// Relays messages between the scheduler and the shim that has the execution `id`, until the shim has
/// [`ToShim::Recorded`] or has disconnected.
pub(super) async fn relay(
    id: ExecutionId,
    shim: Shim,
    messages: mpsc::UnboundedReceiver<ToShim>,
    scheduler: SchedulerHandle,
    ends: mpsc::UnboundedSender<RelayEnd>,
) {
    let end = match relay_until_recorded(id, &shim, messages, &scheduler).await {
        Ok(AfterRecord::Ready) => RelayEnd::Ready(shim),
        Ok(AfterRecord::Left) => RelayEnd::Left { id, pid: shim.pid },
        // The shim lives, and nobody is left to be told.
        Err(RelayError::Stopping) => return,
        Err(RelayError::Shim(error)) => {
            debug!(execution = %id, shim = shim.pid, %error, "the shim is disconnected");
            RelayEnd::Disconnected(DisconnectedShim {
                id,
                pid: shim.pid,
                reconnections: shim.reconnections,
            })
        }
    };
    let _ = ends.send(end);
}

/// What a shim does once its report is recorded.
#[derive(Debug, Clone, Copy)]
enum AfterRecord {
    /// It takes the next command.
    Ready,
    /// It stays with what its command has left.
    Left,
}

/// Why a relay ended early.
#[derive(Debug)]
enum RelayError {
    /// escherd is stopping.
    Stopping,
    /// The shim has disconnected.
    Shim(io::Error),
}

impl From<io::Error> for RelayError {
    fn from(error: io::Error) -> Self {
        RelayError::Shim(error)
    }
}

async fn relay_until_recorded(
    id: ExecutionId,
    shim: &Shim,
    mut messages: mpsc::UnboundedReceiver<ToShim>,
    scheduler: &SchedulerHandle,
) -> Result<AfterRecord, RelayError> {
    // Bounded, because the scheduler sends little ahead: see `INPUT_WINDOW` in `wire`.
    let mut outgoing: VecDeque<Vec<u8>> = VecDeque::new();
    let mut buffer = vec![0; shim.max_message_bytes];
    let mut is_recorded = false;
    let mut afterwards = AfterRecord::Ready;
    loop {
        tokio::select! {
            packet = shim.socket.receive(&mut buffer) => {
                let packet = packet?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
                // A silent shim may turn out to be of another version. Its command must go on nevertheless.
                let Ok(message) = codec::decode(&buffer[..packet.length]) else {
                    error!(execution = %id, "a shim sent something that is not a message of this version");
                    continue;
                };
                if !is_understood(&message) {
                    continue;
                }
                warn_of_leftovers(&message);
                if leaves_processes(&message) {
                    afterwards = AfterRecord::Left;
                }
                // Its end is in an exit record, or was recorded before.
                if has_left_processes(&message) {
                    return Err(io::Error::from(io::ErrorKind::NotConnected).into());
                }
                let handle = move |scheduler: &mut Scheduler| {
                    scheduler.on_shim_message(id, message, Timestamp::now());
                };
                scheduler.post(handle).await.map_err(|_| RelayError::Stopping)?;
            }
            message = messages.recv() => {
                let message = message.ok_or(RelayError::Stopping)?;
                is_recorded |= message == ToShim::Recorded;
                outgoing.push_back(codec::encode(&message).map_err(io::Error::other)?);
            }
            sent = send_first(shim, &outgoing), if !outgoing.is_empty() => {
                if sent.is_err() {
                    // The shim is dead, but its last messages may still be there to be received.
                    outgoing.clear();
                    continue;
                }
                outgoing.pop_front();
                if is_recorded && outgoing.is_empty() {
                    return Ok(afterwards);
                }
            }
        }
    }
}

/// Whether this escherd understands a message: a state must be of its version, and an exit report must have no
/// unknown part that is required. An exit report that is not understood does not finish the execution: the shim
/// keeps it, and leaves an exit record to the next escherd.
fn is_understood(message: &FromShim) -> bool {
    let report = match message {
        FromShim::Exited(report) => report,
        FromShim::Adoptable(state) => return state.version == WIRE_VERSION,
        _ => return true,
    };
    let understood = report.parts.ensure_understood(KNOWN_PARTS);
    if let Err(error) = &understood {
        error!(execution = %report.id, attempt = report.attempt, %error,
            "the report of a shim cannot be used; it stays with the shim until a newer escherd takes it");
    }
    understood.is_ok()
}

async fn send_first(shim: &Shim, outgoing: &VecDeque<Vec<u8>>) -> io::Result<()> {
    match outgoing.front() {
        Some(bytes) => shim.socket.send(bytes).await,
        None => Ok(()),
    }
}

/// Whether an execution has ended that leaves processes.
fn leaves_processes(message: &FromShim) -> bool {
    matches!(message, FromShim::Exited(report) if report.leftovers == Leftovers::Left)
}

/// Whether the shim has nothing but what its execution, which is over, has left.
fn has_left_processes(message: &FromShim) -> bool {
    matches!(message, FromShim::Adoptable(state) if state.phase == ShimPhase::Left)
}

fn warn_of_leftovers(message: &FromShim) {
    if let FromShim::Exited(report) = message
        && report.leftovers == Leftovers::Unkillable
    {
        warn!(execution = %report.id, "processes are left that SIGKILL does not end");
    }
}

#[cfg(test)]
pub(super) mod testbed {
    use super::*;
    use escher_launcher::ipc::wire::{LaunchSpec, LogLimits};
    use escher_protocol::{Blob, Parts, ProcessLimits, ResourceLimits};

    /// Makes the assignment of an execution with one argument.
    pub(in crate::launch) fn assignment(id: ExecutionId, argument: Blob) -> Assignment {
        let spec = LaunchSpec {
            id,
            attempt: FIRST_ATTEMPT,
            number: 1,
            submitter_uid: 0,
            argv: vec!["true".into(), argument],
            environment: Vec::new(),
            working_dir: "/".into(),
            falls_back_to_root_dir: false,
            identity: None,
            umask: 0o022,
            process: ProcessLimits::default(),
            merges_output: false,
            stdin: false,
            timeout_ms: None,
            kill_grace_ms: 1,
            drain_ms: 1,
            may_leave: None,
        };
        Assignment {
            spec,
            submission_backup: Blob::default(),
            log_limits: LogLimits::default(),
            log_budget: 1,
            output_limit: Some(10),
            limits: ResourceLimits::default(),
            user_limits: ResourceLimits::default(),
            parts: Parts::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::packet::{ReceivedPacket, Waiting};
    use escher_launcher::ipc::wire::ExitReport;
    use escher_protocol::{Blob, Exit, Part, Parts};
    use testbed::assignment;

    const ID: ExecutionId = ExecutionId::from_bytes([7; 16]);

    fn receive(shim: &PacketSocket) -> Option<(ToShim, ReceivedPacket)> {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let packet = shim.receive(&mut buffer, Waiting::Never).ok()??;
        let message = codec::decode(&buffer[..packet.length]).unwrap();
        Some((message, packet))
    }

    #[tokio::test]
    async fn a_launch_is_one_message() {
        for (argument, expected) in [
            (
                Blob::from("x"),
                ToShim::Assign(Box::new(assignment(ID, "x".into()))),
            ),
            (
                vec![b'x'; MAX_PACKET_BYTES].into(),
                ToShim::AssignFromMemory,
            ),
        ] {
            let (here, there) = PacketSocket::pair().unwrap();
            let mut shim = Shim::new(here, 1).unwrap();
            shim.launch(&assignment(ID, argument)).unwrap();
            let (message, packet) = receive(&there).unwrap();
            assert_eq!(message, expected);
            let is_in_memory = expected == ToShim::AssignFromMemory;
            assert_eq!(packet.descriptor.is_some(), is_in_memory);
            assert!(receive(&there).is_none());
        }
    }

    /// Whether the report of a shim is acknowledged, if it has these parts.
    async fn is_acknowledged(parts: Parts) -> bool {
        let (here, there) = PacketSocket::pair().unwrap();
        let shim = Shim::new(here, 1).unwrap();
        let (_, outcomes) = mpsc::unbounded_channel();
        let scheduler = Scheduler::new(crate::scheduler::testbed::settings(1));
        let (scheduler, mut effects) =
            crate::scheduler::start(scheduler, outcomes, crate::store::Intake::into_nothing());
        let report = ExitReport {
            parts,
            ..ExitReport::new(ID, FIRST_ATTEMPT, Exit::Code(0), Timestamp::from_micros(2))
        };
        // A report of an execution that the scheduler does not know is acknowledged at once.
        let report = codec::encode(&FromShim::Exited(Box::new(report))).unwrap();
        there.send(&report, None, Waiting::Never).unwrap();
        drop(there);
        let (_sender, messages) = mpsc::unbounded_channel();
        assert!(
            relay_until_recorded(ID, &shim, messages, &scheduler)
                .await
                .is_err()
        );
        drop(scheduler);
        effects.recv().await.is_some()
    }

    #[tokio::test]
    async fn a_report_with_an_unknown_required_part_is_not_acknowledged() {
        let with = |tag| Parts::try_from(vec![Part::new(tag, "later")]).unwrap();
        assert!(is_acknowledged(Parts::new()).await);
        assert!(is_acknowledged(with(4_710)).await);
        assert!(!is_acknowledged(with(4_711)).await);
    }
}
