//! Diagnostic the shims of an earlier escherd.
//!
//! Each shim listens on a socket in the runtime directory ([`escher_launcher::ipc::shim_socket`]). One that can be
//! connected to is alive, and says what it has as soon as it has noticed that its escherd is gone. One that
//! refuses is dead, and its claim tells what it had. Processes are never looked for by number.

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

use super::packets::Packets;
use super::shim::Shim;

/// How long shims may take to say what they have. They do at once, unless somebody has stopped them.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Living shims with an execution, and what they say.
    pub(super) shims: Vec<(Shim, ShimState)>,
    /// Living shims with an execution that have not said anything yet.
    pub(super) silent: Vec<(Shim, ExecutionId)>,
    /// Executions whose shims are dead.
    pub claims: HashSet<ExecutionId>,
    /// Whether a shim lives that may have any execution.
    pub is_doubtful: bool,
}

impl Adoption {
    /// What the living shims say.
    #[must_use]
    pub fn states(&self) -> Vec<ShimState> {
        self.shims.iter().map(|shim| shim.1.clone()).collect()
    }

    /// Executions of living shims that have not said anything.
    #[must_use]
    pub fn silent(&self) -> HashSet<ExecutionId> {
        self.silent.iter().map(|shim| shim.1).collect()
    }

    fn has(&self, name: &SocketName) -> bool {
        match name {
            SocketName::Claim { id, .. } => {
                let of_living = |shim: &(Shim, ShimState)| shim.1.id == *id;
                self.claims.contains(id)
                    || self.shims.iter().any(of_living)
                    || self.silent.iter().any(|shim| shim.1 == *id)
            }
            SocketName::Ready(_) => false,
        }
    }
}

/// What came of one socket.
enum Found {
    Adopted(Packets, Box<ShimState>),
    /// Its shim has ended meanwhile, or the name has changed: to be looked at again.
    Changed,
    Dead,
    Silent(Option<Packets>),
}

/// Looks at every socket in `<runtime_dir>/shims`. Returns once each shim has answered, has ended, or was
/// waited for long enough.
///
/// # Errors
/// When the directory cannot be read. One that is not there is empty.
pub async fn adopt(runtime_dir: &Path) -> io::Result<Adoption> {
    let directory = match File::open(runtime_dir.join(shim_socket::DIRECTORY)) {
        Ok(directory) => Arc::new(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Adoption::default()),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + ADOPTION_DEADLINE;
    let mut adoption = Adoption::default();
    let mut passed_over = HashSet::new();
    let mut quiet_passes = 0;
    // A shim may take a launch that is still on its way to it, and change its name: once, and one listing may
    // miss it for that, but not the next one.
    while quiet_passes < 2 {
        quiet_passes += 1;
        let mut asked = JoinSet::new();
        for name in shim_socket::list(&*directory)? {
            if !adoption.has(&name) && !passed_over.contains(&name) {
                let directory = directory.clone();
                asked.spawn(async move {
                    let found = ask(&directory, &name, deadline).await;
                    (name, found)
                });
            }
        }
        while let Some(Ok((name, found))) = asked.join_next().await {
            quiet_passes = 0;
            match (found, name) {
                (Ok(Found::Adopted(packets, state)), _) => {
                    let shim = Shim::adopted(packets, &state);
                    adoption.shims.push((shim, *state));
                }
                (Ok(Found::Changed), _) => {}
                (Ok(Found::Dead), SocketName::Claim { id, .. }) => drop(adoption.claims.insert(id)),
                // It had no command yet. The launcher removes what it left.
                (Ok(Found::Dead), name) => drop(passed_over.insert(name)),
                (Ok(Found::Silent(Some(packets))), SocketName::Claim { id, .. }) => {
                    warn!(execution = %id, "a shim does not answer; its command is believed to go on");
                    adoption.silent.push((Shim::silent(packets, id), id));
                }
                (Ok(Found::Silent(_)), name) => {
                    warn!(socket = %name, "a shim does not answer");
                    adoption.is_doubtful = true;
                    passed_over.insert(name);
                }
                (Err(error), name) => {
                    warn!(socket = %name, %error, "the socket of a shim cannot be used");
                    adoption.is_doubtful = true;
                    passed_over.insert(name);
                }
            }
        }
    }
    Ok(adoption)
}

async fn ask(directory: &File, name: &SocketName, deadline: Instant) -> io::Result<Found> {
    let socket: PacketSocket = match shim_socket::connect(directory, name) {
        Ok(socket) => socket,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => Ok(Found::Dead),
                io::ErrorKind::NotFound => Ok(Found::Changed),
                // Others wait for it already: it takes nobody on.
                io::ErrorKind::WouldBlock => Ok(Found::Silent(None)),
                _ => Err(error),
            };
        }
    };
    let packets = Packets::new(socket)?;
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    let received = match timeout_at(deadline, packets.receive(&mut buffer)).await {
        Err(_) => return Ok(Found::Silent(Some(packets))),
        // It was idle, or at its end, and leaves an exit record in that case.
        Ok(Ok(None)) => return Ok(Found::Changed),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Ok(Found::Changed);
        }
        Ok(received) => received?.ok_or(io::ErrorKind::UnexpectedEof)?,
    };
    match codec::decode(&buffer[..received.length]) {
        Ok(FromShim::Adoptable(state)) if state.version == WIRE_VERSION => {
            Ok(Found::Adopted(packets, state))
        }
        Ok(FromShim::Adoptable(state)) => Err(io::Error::other(format!(
            "the shim speaks version {} of the messages, escherd version {WIRE_VERSION}",
            state.version
        ))),
        Ok(_) | Err(_) => Err(io::Error::other("unexpected first message")),
    }
}
