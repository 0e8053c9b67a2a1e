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
use escher_launcher::ipc::wire::{FromShim, MAX_PACKET_BYTES, ShimPhase, ShimState, WIRE_VERSION};
use escher_protocol::{ExecutionId, codec};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::async_packet_socket::AsyncPacketSocket;
use super::shim::Shim;

/// How long shims may take to report their state. They do at once unless they are stopped.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The shims of an earlier escherd.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Living shims with an execution that have reported their states.
    pub(super) adopted: Vec<(Shim, ShimState)>,
    /// Living shims with an execution that have not reported their state yet.
    pub(super) silent: Vec<(Shim, ExecutionId)>,
    /// Executions that were claimed by a shim that is dead.
    pub dead_claims: HashSet<ExecutionId>,
    /// Executions that are left to a later escherd: their shims live, and speak another version or cannot be reached.
    pub for_later_escherd: HashSet<ExecutionId>,
    /// Whether there is a living shim that may have any execution.
    pub has_unidentified_shim: bool,
}

impl Adoption {
    /// Returns the reported states of living shims.
    #[must_use]
    pub fn states(&self) -> Vec<ShimState> {
        self.adopted
            .iter()
            .map(|(_, state)| state.clone())
            .collect()
    }

    /// Returns the executions of living shims that have not reported their state.
    #[must_use]
    pub fn silent(&self) -> HashSet<ExecutionId> {
        self.silent.iter().map(|(_, id)| *id).collect()
    }

    fn contains(&self, name: &SocketName) -> bool {
        match name {
            SocketName::Claim { id, .. } => {
                self.dead_claims.contains(id)
                    || self.for_later_escherd.contains(id)
                    || self.adopted.iter().any(|(_, state)| state.id == *id)
                    || self.silent.iter().any(|(_, silent)| silent == id)
            }
            SocketName::Unused(_) | SocketName::Left { .. } => false,
        }
    }
}

/// What connecting to a socket has shown.
enum Probe {
    Adoptable(AsyncPacketSocket, Box<ShimState>),
    /// The shim has ended meanwhile, or has changed the name of its socket.
    Changed,
    Dead,
    /// The shim lives and speaks another version, as this text says.
    OtherVersion(String),
    /// The shim lives and has not reported its state. Without a socket, it does not accept connections.
    Silent(Option<AsyncPacketSocket>),
}

/// Connects to every socket in `<runtime_dir>/shims`. Returns once each shim has answered, has ended,
/// or has not answered in time.
///
/// # Errors
/// If the directory cannot be read. A missing directory is empty.
pub async fn adopt_shims(runtime_dir: &Path) -> io::Result<Adoption> {
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
            let is_left = matches!(name, SocketName::Left { .. });
            if !is_left && !adoption.contains(&name) && !ignored.contains(&name) {
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
                    adoption.adopted.push((shim, *state));
                }
                (Ok(Probe::Changed), _) => {}
                (Ok(Probe::Dead), SocketName::Claim { id, .. }) => {
                    adoption.dead_claims.insert(id);
                }
                // It had no command. The launcher removes its socket.
                (Ok(Probe::Dead), name) => drop(ignored.insert(name)),
                (Ok(Probe::OtherVersion(problem)), SocketName::Claim { id, .. }) => {
                    error!(execution = %id, problem,
                        "the shim of an execution is left to an escherd of its version");
                    adoption.for_later_escherd.insert(id);
                }
                (Ok(Probe::OtherVersion(problem)), name) => {
                    warn!(socket = %name, problem, "the socket of a shim cannot be used");
                    adoption.has_unidentified_shim = true;
                    ignored.insert(name);
                }
                (Ok(Probe::Silent(Some(socket))), SocketName::Claim { id, .. }) => {
                    warn!(execution = %id, "a shim does not answer; its command is assumed to go on");
                    adoption.silent.push((Shim::silent(socket, id), id));
                }
                (Ok(Probe::Silent(None)), SocketName::Claim { id, .. }) => {
                    error!(execution = %id, "a shim accepts no connection; its command is left to a later escherd");
                    adoption.for_later_escherd.insert(id);
                }
                (Err(error), SocketName::Claim { id, .. }) => {
                    error!(execution = %id, %error, "a shim cannot be reached; its command is left to a later escherd");
                    adoption.for_later_escherd.insert(id);
                }
                (Ok(Probe::Silent(_)), name) => {
                    warn!(socket = %name, "a shim does not answer");
                    adoption.has_unidentified_shim = true;
                    ignored.insert(name);
                }
                (Err(error), name) => {
                    warn!(socket = %name, %error, "the socket of a shim cannot be used");
                    adoption.has_unidentified_shim = true;
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
        // The shim was ready, or its command has ended and it leaves an exit record.
        Ok(Ok(None)) => return Ok(Probe::Changed),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Probe::Changed);
        }
        Ok(received) => received?.ok_or(io::ErrorKind::UnexpectedEof)?,
    };
    match codec::decode(&buffer[..received.length]) {
        // Its command has ended meanwhile and has left processes.
        Ok(FromShim::Adoptable(state)) if state.phase == ShimPhase::Left => Ok(Probe::Changed),
        Ok(FromShim::Adoptable(state)) if state.version == WIRE_VERSION => {
            Ok(Probe::Adoptable(socket, state))
        }
        Ok(FromShim::Adoptable(state)) => Ok(Probe::OtherVersion(format!(
            "the shim speaks version {} of the messages, escherd version {WIRE_VERSION}",
            state.version
        ))),
        Ok(_) | Err(_) => Ok(Probe::OtherVersion("unexpected first message".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::{FIRST_ATTEMPT, InputState};
    use escher_protocol::{Blob, SentSignals};
    use nix::sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, send,
        socket,
    };
    use std::os::fd::AsRawFd;

    fn state(id: ExecutionId, version: u16) -> ShimState {
        ShimState {
            version,
            pid: 1,
            id,
            attempt: FIRST_ATTEMPT,
            submission_backup: Blob::default(),
            phase: ShimPhase::Starting,
            is_paused: false,
            log_bytes: 0,
            log_budget: 1,
            input: InputState::default(),
            signals: SentSignals::default(),
        }
    }

    /// Adopts in a directory with one living shim, which sends `message`.
    async fn adopt_one(id: ExecutionId, message: Vec<u8>) -> Adoption {
        let runtime_dir = tempfile::tempdir().unwrap();
        let shims = runtime_dir.path().join(shim_socket::DIRECTORY);
        std::fs::create_dir(&shims).unwrap();
        let name = SocketName::Claim {
            id,
            attempt: FIRST_ATTEMPT,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&shims.join(name.to_string())).unwrap();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let shim = std::thread::spawn(move || {
            let connection = accept(listener.as_raw_fd()).unwrap();
            send(connection, &message, MsgFlags::empty()).unwrap();
            (listener, connection)
        });
        let adoption = adopt_shims(runtime_dir.path()).await.unwrap();
        let _ = nix::unistd::close(shim.join().unwrap().1);
        adoption
    }

    #[tokio::test]
    async fn a_living_shim_of_another_version_is_left_alone() {
        let id = ExecutionId::generate();
        let later = FromShim::Adoptable(Box::new(state(id, WIRE_VERSION + 1)));
        for message in [codec::encode(&later).unwrap(), vec![0xff; 9]] {
            let adoption = adopt_one(id, message).await;
            assert_eq!(adoption.for_later_escherd, HashSet::from([id]));
            assert!(adoption.dead_claims.is_empty() && adoption.adopted.is_empty());
            assert!(!adoption.has_unidentified_shim);
        }
    }

    #[tokio::test]
    async fn a_living_shim_of_this_version_is_adopted() {
        let id = ExecutionId::generate();
        let adoptable = FromShim::Adoptable(Box::new(state(id, WIRE_VERSION)));
        let adoption = adopt_one(id, codec::encode(&adoptable).unwrap()).await;
        assert_eq!(adoption.states(), [state(id, WIRE_VERSION)]);
    }
}
