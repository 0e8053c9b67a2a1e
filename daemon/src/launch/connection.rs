//! The launcher: starting one, and talking to it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use escher_launcher::packet::PacketSocket;
use escher_launcher::wire::{
    LOWEST_WIRE_VERSION, LauncherReply, LauncherRequest, MAX_PACKET_BYTES, Remains, WIRE_VERSION,
};
use escher_protocol::codec::{self, CodecError};
use escher_protocol::{ExecutionId, Leftovers};
use nix::errno::Errno;
use tokio::sync::oneshot;

use super::packets::Packets;
use super::shim::Shim;
use super::state::LauncherState;

/// How long a launcher may take from its start to its first word.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// How the launcher is started.
#[derive(Debug, Clone)]
pub struct LauncherSettings {
    /// Its program.
    pub program: PathBuf,
    /// Directory of the logs.
    pub log_dir: PathBuf,
    /// Directory of the exit records.
    pub state_dir: PathBuf,
    /// Directory of the shims' sockets.
    pub runtime_dir: PathBuf,
    /// Shims that are kept ready.
    pub warm_shims: usize,
}

/// Why there is no launcher.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot be started.
    #[error("cannot start the launcher {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was started and said nothing, or what cannot be understood.
    #[error("the launcher {program} does not answer: {source}")]
    Silent {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of a version that escherd does not speak.
    #[error(
        "the launcher {program} speaks version {found}, escherd versions {LOWEST_WIRE_VERSION} to {WIRE_VERSION}"
    )]
    Version {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: u16,
    },
}

/// A launcher that has said hello. Dropping it lets the launcher go; its shims live on.
#[derive(Debug)]
pub struct Connection {
    packets: Packets,
    buffer: Box<[u8]>,
    version: u16,
    pid: u32,
    uid: u32,
    exit: oneshot::Receiver<()>,
}

/// What a launcher says, or its end.
pub(super) enum Heard {
    Shim(Shim),
    ForkFailed(io::Error),
    ShimDied {
        pid: u32,
        leftovers: Leftovers,
    },
    Removed {
        remains: Remains,
        ids: Vec<ExecutionId>,
    },
    Gone(io::Error),
}

impl Connection {
    /// Starts a launcher as a child of this process and waits for its hello.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn open(settings: &LauncherSettings) -> Result<Self, LaunchError> {
        let program = settings.program.clone();
        let start = |source| LaunchError::Start {
            program: program.clone(),
            source,
        };
        let silent = |source| LaunchError::Silent {
            program: program.clone(),
            source,
        };
        let (packets, exit) = spawn(settings).map_err(start)?;
        let mut buffer = vec![0; MAX_PACKET_BYTES].into_boxed_slice();
        let first = tokio::time::timeout(HELLO_DEADLINE, receive(&packets, &mut buffer)).await;
        match first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((LauncherReply::Hello { version, pid, uid }, _))
                if (LOWEST_WIRE_VERSION..=WIRE_VERSION).contains(&version) =>
            {
                Ok(Connection {
                    packets,
                    buffer,
                    version,
                    pid,
                    uid,
                    exit,
                })
            }
            Ok((LauncherReply::Hello { version, .. }, _)) => Err(LaunchError::Version {
                program,
                found: version,
            }),
            Ok(_) => Err(silent(io::Error::other("its first word is not hello"))),
            Err(error) => Err(silent(error)),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The version that it and its shims speak.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Its user: 0 can start commands as anybody.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// What is to be told of it.
    pub(super) fn state(&self) -> LauncherState {
        LauncherState {
            pid: self.pid,
            wire_version: self.version,
            abilities: None,
        }
    }

    /// Lets the launcher go and waits until it has gone.
    pub(super) async fn close(self) {
        drop(self.packets);
        // An error means that nobody has waited for it, which comes to the same.
        let _ = self.exit.await;
    }

    /// Asks for `count` shims.
    pub(super) fn order(&self, count: u32) -> io::Result<()> {
        self.say(&LauncherRequest::Fork { count })
    }

    /// Has it delete what `ids` have left; at most [`MAX_REMOVED_AT_ONCE`] of them.
    ///
    /// [`MAX_REMOVED_AT_ONCE`]: escher_launcher::wire::MAX_REMOVED_AT_ONCE
    pub(super) fn remove(&self, remains: Remains, ids: Vec<ExecutionId>) -> io::Result<()> {
        self.say(&LauncherRequest::Remove { remains, ids })
    }

    fn say(&self, request: &LauncherRequest) -> io::Result<()> {
        let bytes = codec::encode(request).map_err(io::Error::other)?;
        self.packets.send_now(&bytes, None)
    }

    /// What it says next. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard {
        match receive(&self.packets, &mut self.buffer).await {
            Ok((LauncherReply::Shim { pid }, Some(socket))) => {
                match Shim::new(PacketSocket::from_descriptor(socket), pid, self.version) {
                    Ok(shim) => Heard::Shim(shim),
                    Err(error) => Heard::ForkFailed(error),
                }
            }
            Ok((LauncherReply::ForkFailed { errno }, _)) => {
                Heard::ForkFailed(Errno::from_raw(errno).into())
            }
            Ok((LauncherReply::ShimDied { pid, leftovers }, _)) => {
                Heard::ShimDied { pid, leftovers }
            }
            Ok((LauncherReply::Removed { remains, ids }, _)) => Heard::Removed { remains, ids },
            Ok(_) => Heard::Gone(io::Error::other("it says what makes no sense")),
            Err(error) => Heard::Gone(error),
        }
    }
}

async fn receive(
    packets: &Packets,
    buffer: &mut [u8],
) -> io::Result<(LauncherReply, Option<OwnedFd>)> {
    let packet = packets.receive(buffer).await?;
    let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
    let message = codec::decode(&buffer[..packet.length]);
    let message = message.map_err(|error: CodecError| io::Error::other(error))?;
    Ok((message, packet.descriptor))
}

/// The launcher gets the control socket as its standard input, and nothing of escherd's environment.
fn spawn(settings: &LauncherSettings) -> io::Result<(Packets, oneshot::Receiver<()>)> {
    let (here, there) = PacketSocket::pair()?;
    let mut child = Command::new(&settings.program)
        .arg("--log-dir")
        .arg(&settings.log_dir)
        .arg("--state-dir")
        .arg(&settings.state_dir)
        .arg("--runtime-dir")
        .arg(&settings.runtime_dir)
        .env_clear()
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::null())
        .spawn()?;
    // Its death shows on the socket; this is for its remains.
    let (gone, exit) = oneshot::channel();
    std::thread::Builder::new()
        .name("launcher-reaper".to_owned())
        .spawn(move || {
            let _ = child.wait();
            let _ = gone.send(());
        })?;
    Ok((Packets::new(here)?, exit))
}
