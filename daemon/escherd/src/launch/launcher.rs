//! The launcher: starting one, or finding the one that is there, and talking to it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::wire::{
    Abilities, Artifact, Directories, Hello, KNOWN_PARTS, LauncherReply, LauncherRequest,
    MAX_PACKET_BYTES, WIRE_VERSION,
};
use escher_protocol::codec::{self, CodecError};
use escher_protocol::{ExecutionId, Leftovers, Text, UnsupportedPart};
use nix::errno::Errno;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::packets::Packets;
use super::shim::Shim;
use super::state::LauncherState;

/// How long a launcher may take from its start to its first word.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Where a launcher comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// escherd starts this program, as its child.
    Program(PathBuf),
    /// A keeper listens there for escherd.
    Socket(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Program(path) => path.display().fmt(f),
            Source::Socket(path) => write!(f, "at {}", path.display()),
        }
    }
}

/// Which launcher it is, and what it is to be told.
#[derive(Debug, Clone)]
pub struct LauncherSettings {
    /// Where it comes from.
    pub source: Source,
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
    /// It does not listen.
    #[error(
        "there is no launcher at {socket}: {source}; is the service escher-launcher running, and for this user?"
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot use the directories.
    #[error("the launcher {launcher} cannot work: {reason}")]
    Directories {
        /// The launcher.
        launcher: Source,
        /// What it says.
        reason: Text,
    },
    /// It says nothing, or what cannot be understood.
    #[error("the launcher {launcher} does not answer: {source}")]
    Silent {
        /// The launcher.
        launcher: Source,
        /// Why.
        source: io::Error,
    },
    /// It speaks another version of the messages.
    #[error(
        "the launcher {launcher} speaks version {found} of the messages, escherd version {WIRE_VERSION}"
    )]
    Version {
        /// The launcher.
        launcher: Source,
        /// Its version.
        found: u16,
    },
    /// Its first message has a part that must be understood and is not.
    #[error("the launcher {launcher} is too new: {source}")]
    Unsupported {
        /// The launcher.
        launcher: Source,
        /// Which part.
        source: UnsupportedPart,
    },
}

/// A launcher that has said hello. Dropping it lets the launcher go; its shims live on.
#[derive(Debug)]
pub struct Connection {
    packets: Packets,
    buffer: Box<[u8]>,
    hello: Hello,
    /// Of a launcher that is this process's child.
    exit: Option<oneshot::Receiver<()>>,
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
        artifact: Artifact,
        ids: Vec<ExecutionId>,
    },
    CgroupKilled {
        id: ExecutionId,
        leftovers: Leftovers,
    },
    Gone(io::Error),
}

impl Connection {
    /// Starts a launcher as a child of this process, or connects to the one that is there, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn open(settings: &LauncherSettings) -> Result<Self, LaunchError> {
        let (packets, exit) = match &settings.source {
            Source::Program(program) => {
                let spawned = spawn(program, settings);
                let (packets, exit) = spawned.map_err(|source| LaunchError::Start {
                    program: program.clone(),
                    source,
                })?;
                (packets, Some(exit))
            }
            Source::Socket(path) => {
                let connected = connect(path).map_err(|source| LaunchError::Connect {
                    socket: path.clone(),
                    source,
                })?;
                (connected, None)
            }
        };
        let greeting = greet(settings, &packets);
        let greeting = timeout(HELLO_DEADLINE, greeting).await;
        let hello = greeting.map_err(|_| LaunchError::Silent {
            launcher: settings.source.clone(),
            source: io::ErrorKind::TimedOut.into(),
        })??;
        Ok(Connection {
            packets,
            buffer: packet_buffer(),
            hello,
            exit,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Its user: 0 can start commands as anybody.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.hello.uid
    }

    /// What it can do.
    #[must_use]
    pub fn abilities(&self) -> &Abilities {
        &self.hello.abilities
    }

    /// What is to be told of it.
    pub(super) fn state(&self) -> LauncherState {
        LauncherState {
            pid: self.hello.pid,
            abilities: self.hello.abilities.clone(),
        }
    }

    /// Lets the launcher go, and waits until a child has gone.
    pub(super) async fn close(self) {
        drop(self.packets);
        if let Some(exit) = self.exit {
            // An error means that nobody has waited for it, which comes to the same.
            let _ = exit.await;
        }
    }

    /// Asks for `count` shims.
    pub(super) fn order(&self, count: u32) -> io::Result<()> {
        self.say(&LauncherRequest::Fork { count })
    }

    /// Has it delete what `ids` have left; at most [`MAX_REMOVED_AT_ONCE`] of them.
    ///
    /// [`MAX_REMOVED_AT_ONCE`]: escher_launcher::ipc::wire::MAX_REMOVED_AT_ONCE
    pub(super) fn remove(&self, artifact: Artifact, ids: Vec<ExecutionId>) -> io::Result<()> {
        self.say(&LauncherRequest::Remove { artifact, ids })
    }

    /// Has it kill the processes in the cgroup of an execution.
    pub(super) fn kill_cgroup(&self, id: ExecutionId) -> io::Result<()> {
        self.say(&LauncherRequest::KillCgroup { id })
    }

    fn say(&self, request: &LauncherRequest) -> io::Result<()> {
        say(&self.packets, request)
    }

    /// What it says next. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard {
        match receive(&self.packets, &mut self.buffer).await {
            Ok((LauncherReply::Shim { pid }, Some(socket))) => {
                match Shim::new(PacketSocket::from_descriptor(socket), pid) {
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
            Ok((LauncherReply::Removed { artifact, ids }, _)) => Heard::Removed { artifact, ids },
            Ok((LauncherReply::CgroupKilled { id, leftovers }, _)) => {
                Heard::CgroupKilled { id, leftovers }
            }
            Ok(_) => Heard::Gone(io::Error::other("unexpected message")),
            Err(error) => Heard::Gone(error),
        }
    }
}

/// Receives the launcher's first message, and gives it the directories where it has none.
async fn greet(settings: &LauncherSettings, packets: &Packets) -> Result<Hello, LaunchError> {
    let launcher = || settings.source.clone();
    let silent = |source| LaunchError::Silent {
        launcher: launcher(),
        source,
    };
    let unexpected = |which| silent(io::Error::other(format!("unexpected {which} message")));
    let mut buffer = packet_buffer();
    let first = receive(packets, &mut buffer).await;
    let hello = match first {
        Ok((LauncherReply::Hello(hello), _)) => hello,
        Ok(_) => return Err(unexpected("first")),
        // What is no message at all, too.
        Err(error) if error.kind() == io::ErrorKind::Other => return Err(unexpected("first")),
        Err(error) => return Err(silent(error)),
    };
    if hello.version != WIRE_VERSION {
        return Err(LaunchError::Version {
            launcher: launcher(),
            found: hello.version,
        });
    }
    let understood = hello.parts.ensure_understood(KNOWN_PARTS);
    understood.map_err(|source| LaunchError::Unsupported {
        launcher: launcher(),
        source,
    })?;
    if !hello.abilities.has_directories {
        let told = say(packets, &LauncherRequest::Use(directories(settings)));
        told.map_err(silent)?;
        match receive(packets, &mut buffer).await.map_err(silent)?.0 {
            LauncherReply::InUse { error: None } => {}
            LauncherReply::InUse {
                error: Some(reason),
            } => {
                return Err(LaunchError::Directories {
                    launcher: launcher(),
                    reason,
                });
            }
            _ => return Err(unexpected("second")),
        }
    }
    Ok(hello)
}

fn directories(settings: &LauncherSettings) -> Directories {
    let bytes = |path: &Path| path.as_os_str().into();
    Directories {
        log_dir: bytes(&settings.log_dir),
        state_dir: bytes(&settings.state_dir),
        runtime_dir: bytes(&settings.runtime_dir),
    }
}

fn packet_buffer() -> Box<[u8]> {
    vec![0; MAX_PACKET_BYTES].into_boxed_slice()
}

fn say(packets: &Packets, request: &LauncherRequest) -> io::Result<()> {
    let bytes = codec::encode(request).map_err(io::Error::other)?;
    packets.send_now(&bytes, None)
}

fn connect(path: &Path) -> io::Result<Packets> {
    Packets::new(PacketSocket::connect(path)?)
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
fn spawn(
    program: &Path,
    settings: &LauncherSettings,
) -> io::Result<(Packets, oneshot::Receiver<()>)> {
    let (here, there) = PacketSocket::pair()?;
    let mut child = Command::new(program)
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
