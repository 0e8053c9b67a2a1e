//! One shim, from escherd's side.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;

use escher_launcher::packet::PacketSocket;
use escher_launcher::wire::{
    Assignment, FromShim, MAX_PACKET_BYTES, ShimState, ToShim, WIRE_VERSION,
};
use escher_protocol::{ExecutionId, Leftovers, Timestamp, codec};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::packets::Packets;
use crate::engine::{Engine, EngineHandle};

/// A shim.
#[derive(Debug)]
pub(super) struct Shim {
    packets: Packets,
    pid: u32,
    /// The version that it speaks.
    version: u16,
    /// The execution that it has, or had last.
    last: Option<ExecutionId>,
    /// Longest packet that is expected of it, in bytes.
    longest_news: usize,
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
    pub(super) fn new(socket: PacketSocket, pid: u32, version: u16) -> io::Result<Self> {
        let packets = Packets::new(socket)?;
        Ok(Shim {
            packets,
            pid,
            version,
            last: None,
            longest_news: NEWS_BYTES,
        })
    }

    /// A shim that was found, and said so.
    pub(super) fn adopted(packets: Packets, state: &ShimState) -> Self {
        Shim {
            packets,
            pid: state.pid,
            version: state.version,
            last: Some(state.id),
            longest_news: NEWS_BYTES,
        }
    }

    /// A shim that was found to have an execution, and has not said anything. It will say
    /// [`FromShim::Adoptable`] first.
    pub(super) fn silent(packets: Packets, id: ExecutionId) -> Self {
        Shim {
            packets,
            pid: 0,
            version: WIRE_VERSION,
            last: Some(id),
            longest_news: MAX_PACKET_BYTES,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn version(&self) -> u16 {
        self.version
    }

    pub(super) fn last(&self) -> Option<ExecutionId> {
        self.last
    }

    /// Gives it a command. On an error it has not seen it.
    pub(super) fn launch(&mut self, assignment: &Assignment) -> io::Result<()> {
        self.last = Some(assignment.spec.id);
        if self.version < 2 {
            let spec = &assignment.spec;
            return self.hand(
                &ToShim::Launch(Box::new(spec.clone())),
                &ToShim::LaunchFromMemory,
                spec,
            );
        }
        let whole = ToShim::Assign(Box::new(assignment.clone()));
        self.hand(&whole, &ToShim::AssignFromMemory, assignment)
    }

    /// Sends `whole` if it fits into a packet; else `by_memory`, with `body` in memory beside it.
    fn hand(&self, whole: &ToShim, by_memory: &ToShim, body: &impl Serialize) -> io::Result<()> {
        let bytes = codec::encode(whole).map_err(io::Error::other)?;
        if bytes.len() <= MAX_PACKET_BYTES {
            return self.packets.send_now(&bytes, None);
        }
        let memory = sealed_memory(&codec::encode(body).map_err(io::Error::other)?)?;
        let bytes = codec::encode(by_memory).map_err(io::Error::other)?;
        self.packets.send_now(&bytes, Some(memory.as_fd()))
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
    engine: EngineHandle,
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
    engine: &EngineHandle,
) -> io::Result<()> {
    // Bounded by what the engine sends ahead: see `INPUT_WINDOW` and the like in `wire`.
    let mut outgoing: VecDeque<Vec<u8>> = VecDeque::new();
    let mut buffer = vec![0; shim.longest_news];
    let mut over = false;
    loop {
        tokio::select! {
            packet = shim.packets.receive(&mut buffer) => {
                let packet = packet?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let message = codec::decode(&buffer[..packet.length]).map_err(io::Error::other)?;
                warn_of_leftovers(&message);
                let tell = move |engine: &mut Engine| {
                    engine.shim_news(id, message, Timestamp::now());
                };
                engine.tell(tell).await.map_err(io::Error::other)?;
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

/// Longest packet that a shim sends after its first: a report, with a user's name in it.
const NEWS_BYTES: usize = 4096;

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
