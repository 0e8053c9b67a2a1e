//! One shim, from escherd's side.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::wire::{
    Assignment, FromShim, KNOWN_PARTS, MAX_PACKET_BYTES, MAX_SHIM_MESSAGE_BYTES, ShimState, ToShim,
};
use escher_protocol::{ExecutionId, Leftovers, Timestamp, codec};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::packets::Packets;
use crate::scheduler::{Scheduler, SchedulerHandle};

/// A shim.
#[derive(Debug)]
pub(super) struct Shim {
    packets: Packets,
    pid: u32,
    /// The execution that it has, or had last.
    last: Option<ExecutionId>,
    /// Longest packet that is expected of it, in bytes.
    longest_message: usize,
}

/// A shim that is done with an execution.
pub(super) struct Returned {
    pub(super) id: ExecutionId,
    pub(super) pid: u32,
    /// `None` if it is gone.
    pub(super) shim: Option<Shim>,
}

impl Shim {
    /// A shim that was forked and has no command yet.
    pub(super) fn new(socket: PacketSocket, pid: u32) -> io::Result<Self> {
        let packets = Packets::new(socket)?;
        Ok(Shim {
            packets,
            pid,
            last: None,
            longest_message: MAX_SHIM_MESSAGE_BYTES,
        })
    }

    /// A shim that was found, and said so.
    pub(super) fn adopted(packets: Packets, state: &ShimState) -> Self {
        Shim {
            packets,
            pid: state.pid,
            last: Some(state.id),
            longest_message: MAX_SHIM_MESSAGE_BYTES,
        }
    }

    /// A shim that was found to have an execution, and has not said anything. It will say
    /// [`FromShim::Adoptable`] first.
    pub(super) fn silent(packets: Packets, id: ExecutionId) -> Self {
        Shim {
            packets,
            pid: 0,
            last: Some(id),
            longest_message: MAX_PACKET_BYTES,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn last(&self) -> Option<ExecutionId> {
        self.last
    }

    /// Gives it a command: as a packet, or, where the assignment does not fit into one, in memory beside
    /// it. On an error it has not seen the command.
    pub(super) fn launch(&mut self, assignment: &Assignment) -> io::Result<()> {
        self.last = Some(assignment.spec.id);
        let packet = ToShim::encode_assign(assignment).map_err(io::Error::other)?;
        if packet.len() <= MAX_PACKET_BYTES {
            return self.packets.send_now(&packet, None);
        }
        let memory = sealed_memory(&codec::encode(assignment).map_err(io::Error::other)?)?;
        let packet = codec::encode(&ToShim::AssignFromMemory).map_err(io::Error::other)?;
        self.packets.send_now(&packet, Some(memory.as_fd()))
    }
}

/// Memory that holds `bytes` and that nobody can change any more (memfd_create(2), F_ADD_SEALS in fcntl(2)).
fn sealed_memory(bytes: &[u8]) -> io::Result<std::fs::File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut memory = std::fs::File::from(memfd_create(c"escher-launch", flags)?);
    memory.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory)
}

/// Carries orders to the shim that runs `id`, and its news to the engine, until the result is safe or the
/// shim is gone.
pub(super) async fn attend(
    id: ExecutionId,
    shim: Shim,
    orders: mpsc::UnboundedReceiver<ToShim>,
    engine: SchedulerHandle,
    returns: mpsc::UnboundedSender<Returned>,
) {
    let pid = shim.pid;
    let shim = match converse(id, &shim, orders, &engine).await {
        Ok(()) => Some(shim),
        Err(error) => {
            debug!(execution = %id, shim = pid, %error, "the shim is gone");
            None
        }
    };
    let _ = returns.send(Returned { id, pid, shim });
}

async fn converse(
    id: ExecutionId,
    shim: &Shim,
    mut orders: mpsc::UnboundedReceiver<ToShim>,
    engine: &SchedulerHandle,
) -> io::Result<()> {
    // Bounded by what the engine sends ahead: see `INPUT_WINDOW` and the like in `wire`.
    let mut outgoing: VecDeque<Vec<u8>> = VecDeque::new();
    let mut buffer = vec![0; shim.longest_message];
    let mut over = false;
    loop {
        tokio::select! {
            packet = shim.packets.receive(&mut buffer) => {
                let packet = packet?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let message =
                    codec::decode(&buffer[..packet.length]).map_err(io::Error::other)?;
                if !is_understood(&message) {
                    continue;
                }
                warn_of_leftovers(&message);
                let tell = move |engine: &mut Scheduler| {
                    engine.shim_news(id, message, Timestamp::now());
                };
                engine.post(tell).await.map_err(io::Error::other)?;
            }
            order = orders.recv() => {
                let order = order.ok_or(io::ErrorKind::ConnectionAborted)?;
                over |= order == ToShim::Recorded;
                outgoing.push_back(codec::encode(&order).map_err(io::Error::other)?);
            }
            sent = send_first(shim, &outgoing), if !outgoing.is_empty() => {
                if sent.is_err() {
                    // It is gone, but what it said last may still be there to be read.
                    outgoing.clear();
                    continue;
                }
                outgoing.pop_front();
                if over && outgoing.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether every part of a report that must be understood is. Otherwise the execution is not finished from
/// it: the report stays with its shim, which leaves an exit record to the next escherd.
fn is_understood(message: &FromShim) -> bool {
    let FromShim::Exited(report) = message else {
        return true;
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
        Some(bytes) => shim.packets.send(bytes).await,
        None => Ok(()),
    }
}

fn warn_of_leftovers(news: &FromShim) {
    if let FromShim::Exited(report) = news
        && report.leftovers == Leftovers::Unkillable
    {
        warn!(execution = %report.id, "processes are left that SIGKILL does not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::packet::{Received, Waiting};
    use escher_launcher::ipc::wire::{ExitReport, FIRST_ATTEMPT, LaunchSpec, LogLimits};
    use escher_protocol::{Blob, Exit, Part, Parts, ResourceLimits};

    const ID: ExecutionId = ExecutionId::from_bytes([7; 16]);

    fn assignment(argument: Blob) -> Assignment {
        let spec = LaunchSpec {
            id: ID,
            attempt: FIRST_ATTEMPT,
            argv: vec!["true".into(), argument],
            environment: Vec::new(),
            working_dir: "/".into(),
            falls_back_to_root_dir: false,
            identity: None,
            stdin: false,
            timeout_ms: None,
            kill_grace_ms: 1,
        };
        Assignment {
            spec,
            submission_backup: Blob::default(),
            log_limits: LogLimits::default(),
            output_limit: Some(10),
            limits: ResourceLimits::default(),
            parts: Parts::new(),
        }
    }

    fn receive(shim: &PacketSocket) -> Option<(ToShim, Received)> {
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
                ToShim::Assign(Box::new(assignment("x".into()))),
            ),
            (
                vec![b'x'; MAX_PACKET_BYTES].into(),
                ToShim::AssignFromMemory,
            ),
        ] {
            let (here, there) = PacketSocket::pair().unwrap();
            let mut shim = Shim::new(here, 1).unwrap();
            shim.launch(&assignment(argument)).unwrap();
            let (message, packet) = receive(&there).unwrap();
            assert_eq!(message, expected);
            let is_in_memory = expected == ToShim::AssignFromMemory;
            assert_eq!(packet.descriptor.is_some(), is_in_memory);
            assert!(receive(&there).is_none());
        }
    }

    /// Whether the report of a shim is acknowledged, if it has these parts.
    async fn acknowledged(parts: Parts) -> bool {
        let (here, there) = PacketSocket::pair().unwrap();
        let shim = Shim::new(here, 1).unwrap();
        let (_, outcomes) = mpsc::unbounded_channel();
        let scheduler = Scheduler::new(crate::scheduler::testbed::settings(1));
        let (scheduler, mut effects) = crate::scheduler::start(scheduler, outcomes, |_| {});
        let report = ExitReport {
            parts,
            ..ExitReport::new(ID, FIRST_ATTEMPT, Exit::Code(0), Timestamp::from_micros(2))
        };
        // A report of an execution that the scheduler does not know is acknowledged at once.
        let report = codec::encode(&FromShim::Exited(Box::new(report))).unwrap();
        there.send(&report, None, Waiting::Never).unwrap();
        drop(there);
        let (_sender, orders) = mpsc::unbounded_channel();
        assert!(converse(ID, &shim, orders, &scheduler).await.is_err());
        drop(scheduler);
        effects.recv().await.is_some()
    }

    #[tokio::test]
    async fn a_report_with_an_unknown_required_part_is_not_acknowledged() {
        let with = |tag| Parts::try_from(vec![Part::new(tag, "later")]).unwrap();
        assert!(acknowledged(Parts::new()).await);
        assert!(acknowledged(with(4_710)).await);
        assert!(!acknowledged(with(4_711)).await);
    }
}
