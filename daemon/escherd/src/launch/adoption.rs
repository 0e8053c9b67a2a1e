//! Finding the shims of an earlier escherd.
//!
//! Each shim listens on a socket in the runtime directory ([`escher_launcher::ipc::shim_socket`]). A
//! living shim accepts a connection, and reports its state as soon as it has noticed the end of its
//! escherd. The socket of a dead shim refuses connections, and its name says which execution the shim
//! had. Processes are never looked up by number.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::shim_socket::{self, SocketName};
use escher_launcher::ipc::wire::{FromShim, MAX_PACKET_BYTES, ShimState, WIRE_VERSION};
use escher_protocol::{ExecutionId, codec};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::async_packet_socket::AsyncPacketSocket;
use super::shim::Shim;

/// How long shims may take to report their state. They do at once unless they are stopped.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The shims of an earlier escherd.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Living shims with an execution, and their reported states.
    pub(super) shims: Vec<(Shim, ShimState)>,
    /// Living shims with an execution that have not reported their state yet.
    pub(super) silent: Vec<(Shim, ExecutionId)>,
    /// Executions whose shims are dead.
    pub claims: HashSet<ExecutionId>,
    /// Whether there is a living shim that may have any execution.
    pub is_doubtful: bool,
}

impl Adoption {
    /// Returns the reported states of living shims.
    #[must_use]
    pub fn states(&self) -> Vec<ShimState> {
        self.shims.iter().map(|(_, state)| state.clone()).collect()
    }

    /// Returns the executions of living shims that have not reported their state.
    #[must_use]
    pub fn silent(&self) -> HashSet<ExecutionId> {
        self.silent.iter().map(|(_, id)| *id).collect()
    }

    fn contains(&self, name: &SocketName) -> bool {
        match name {
            SocketName::Claim { id, .. } => {
                self.claims.contains(id)
                    || self.shims.iter().any(|(_, state)| state.id == *id)
                    || self.silent.iter().any(|(_, silent)| silent == id)
            }
            SocketName::Ready(_) => false,
        }
    }
}

/// The result of connecting to a socket.
enum Probe {
    Adoptable(AsyncPacketSocket, Box<ShimState>),
    /// The shim has ended meanwhile, or has changed the name of its socket.
    Changed,
    Dead,
    /// The shim lives and has not reported its state. Without a socket, it does not accept connections.
    Silent(Option<AsyncPacketSocket>),
}

/// Connects to every socket in `<runtime_dir>/shims`. Returns once each shim has answered, has ended,
/// or has not answered in time.
///
/// # Errors
/// If the directory cannot be read. A missing directory is empty.
pub async fn adopt(runtime_dir: &Path) -> io::Result<Adoption> {
    let directory = match File::open(runtime_dir.join(shim_socket::DIRECTORY)) {
        Ok(directory) => Arc::new(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Adoption::default()),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + ADOPTION_TIMEOUT;
    let mut adoption = Adoption::default();
    let mut ignored = HashSet::new();
    let mut quiet_passes = 0;
    // A shim may still receive a launch that was sent before, and change the name of its socket. That
    // happens once, so one listing may miss the socket, but not the next one, too.
    while quiet_passes < 2 {
        quiet_passes += 1;
        let mut probes = JoinSet::new();
        for name in shim_socket::list(&*directory)? {
            if !adoption.contains(&name) && !ignored.contains(&name) {
                let directory = directory.clone();
                probes.spawn(async move {
                    let result = probe(&directory, &name, deadline).await;
                    (name, result)
                });
            }
        }
        while let Some(Ok((name, result))) = probes.join_next().await {
            quiet_passes = 0;
            match (result, name) {
                (Ok(Probe::Adoptable(socket, state)), _) => {
                    let shim = Shim::adopted(socket, &state);
                    adoption.shims.push((shim, *state));
                }
                (Ok(Probe::Changed), _) => {}
                (Ok(Probe::Dead), SocketName::Claim { id, .. }) => drop(adoption.claims.insert(id)),
                // It had no command. The launcher removes its socket.
                (Ok(Probe::Dead), name) => drop(ignored.insert(name)),
                (Ok(Probe::Silent(Some(socket))), SocketName::Claim { id, .. }) => {
                    warn!(execution = %id, "a shim does not answer; its command is assumed to go on");
                    adoption.silent.push((Shim::silent(socket, id), id));
                }
                (Ok(Probe::Silent(_)), name) => {
                    warn!(socket = %name, "a shim does not answer");
                    adoption.is_doubtful = true;
                    ignored.insert(name);
                }
                (Err(error), name) => {
                    warn!(socket = %name, %error, "the socket of a shim cannot be used");
                    adoption.is_doubtful = true;
                    ignored.insert(name);
                }
            }
        }
    }
    Ok(adoption)
}

async fn probe(directory: &File, name: &SocketName, deadline: Instant) -> io::Result<Probe> {
    let socket: PacketSocket = match shim_socket::connect(directory, name) {
        Ok(socket) => socket,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => Ok(Probe::Dead),
                io::ErrorKind::NotFound => Ok(Probe::Changed),
                // The socket's backlog is full of others that wait for the shim.
                io::ErrorKind::WouldBlock => Ok(Probe::Silent(None)),
                _ => Err(error),
            };
        }
    };
    let socket = AsyncPacketSocket::new(socket)?;
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    let received = match timeout_at(deadline, socket.receive(&mut buffer)).await {
        Err(_) => return Ok(Probe::Silent(Some(socket))),
        // The shim was idle, or its command has ended and it leaves an exit record.
        Ok(Ok(None)) => return Ok(Probe::Changed),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Probe::Changed);
        }
        Ok(received) => received?.ok_or(io::ErrorKind::UnexpectedEof)?,
    };
    match codec::decode(&buffer[..received.length]) {
        Ok(FromShim::Adoptable(state)) if state.version == WIRE_VERSION => {
            Ok(Probe::Adoptable(socket, state))
        }
        Ok(FromShim::Adoptable(state)) => Err(io::Error::other(format!(
            "the shim speaks version {} of the messages, escherd version {WIRE_VERSION}",
            state.version
        ))),
        Ok(_) | Err(_) => Err(io::Error::other("unexpected first message")),
    }
}
