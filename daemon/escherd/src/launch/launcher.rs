//! The connection to a launcher: starting one, or connecting to the one that listens.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use escher_launcher::ipc::packet::PacketSocket;
use escher_launcher::ipc::wire::{
    Abilities, Directories, ExecutionFiles, KNOWN_PARTS, LauncherHello, LauncherReply,
    LauncherRequest, MAX_PACKET_BYTES, WIRE_VERSION,
};
use escher_protocol::codec::{self, CodecError};
use escher_protocol::{ExecutionId, Leftovers, Text, UnsupportedPart};
use nix::errno::Errno;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::async_packet_socket::AsyncPacketSocket;
use super::shim::Shim;

/// How long a launcher may take from its start to the end of the handshake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a launcher comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LauncherSource {
    /// escherd starts this program as its child.
    Program(PathBuf),
    /// A keeper listens for escherd at this socket.
    Socket(PathBuf),
}

impl fmt::Display for LauncherSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LauncherSource::Program(path) => path.display().fmt(f),
            LauncherSource::Socket(path) => write!(f, "at {}", path.display()),
        }
    }
}

/// Which launcher to use, and its directories.
#[derive(Debug, Clone)]
pub struct LauncherSettings {
    /// Where the launcher comes from.
    pub source: LauncherSource,
    /// Directory of the logs.
    pub log_dir: PathBuf,
    /// Parent of the directory of the exit records.
    pub state_dir: PathBuf,
    /// Parent of the directory of the shims' sockets.
    pub runtime_dir: PathBuf,
    /// How many shims are kept ready.
    pub warm_shims: usize,
}

/// The launcher that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LauncherState {
    /// Its process id.
    pub pid: u32,
    /// What it can do.
    pub abilities: Abilities,
}

/// Why there is no launcher.
#[derive(Debug, thiserror::Error)]
pub enum LauncherConnectionError {
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
        "there is no launcher at {socket}: {source}; is the service escher-launcher running, and does it serve this user?"
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot use its directories.
    #[error("the launcher {launcher} cannot work: {reason}")]
    Directories {
        /// The launcher.
        launcher: LauncherSource,
        /// Its answer.
        reason: Text,
    },
    /// It uses another directory than escherd.
    #[error(
        "the launcher {launcher} has {option} {found}, and escherd {wanted}: they must be the same; \
         a drop-in of escher-launcher.service can set the option in ExecStart="
    )]
    OtherDirectory {
        /// The launcher.
        launcher: LauncherSource,
        /// The option of the launcher's command line.
        option: &'static str,
        /// Its directory.
        found: String,
        /// escherd's.
        wanted: String,
    },
    /// It sends nothing, or something unexpected.
    #[error("the launcher {launcher} does not answer: {source}")]
    Silent {
        /// The launcher.
        launcher: LauncherSource,
        /// Why.
        source: io::Error,
    },
    /// It speaks another version of the messages.
    #[error(
        "the launcher {launcher} speaks version {found} of the messages, escherd version {WIRE_VERSION}"
    )]
    Version {
        /// The launcher.
        launcher: LauncherSource,
        /// Its version.
        found: u16,
    },
    /// Its first message has a part that must be understood and is not.
    #[error("the launcher {launcher} is too new: {source}")]
    Unsupported {
        /// The launcher.
        launcher: LauncherSource,
        /// Which part.
        source: UnsupportedPart,
    },
}

/// A connection to a launcher whose first message was accepted. Dropping it lets the launcher go; its
/// shims live on.
#[derive(Debug)]
pub struct LauncherConnection {
    socket: AsyncPacketSocket,
    buffer: Box<[u8]>,
    hello: LauncherHello,
    /// The end of a launcher that is a child of this process.
    exit: Option<oneshot::Receiver<()>>,
}

/// A message of the launcher, or the end of the connection.
pub(super) enum LauncherEvent {
    /// A shim is ready.
    Forked(Shim),
    ForkFailed(io::Error),
    ShimDied {
        pid: u32,
        leftovers: Leftovers,
    },
    FilesDeleted {
        files: ExecutionFiles,
        ids: Vec<ExecutionId>,
    },
    ReadRevoked {
        ids: Vec<ExecutionId>,
    },
    CgroupKilled {
        id: ExecutionId,
        leftovers: Leftovers,
    },
    Disconnected(io::Error),
}

impl LauncherConnection {
    /// Starts a launcher as a child of this process, or connects to the one that listens, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// [`LauncherConnectionError`].
    pub async fn open(settings: &LauncherSettings) -> Result<Self, LauncherConnectionError> {
        let (socket, exit) = match &settings.source {
            LauncherSource::Program(program) => {
                let spawned = spawn(program, settings);
                let (socket, exit) = spawned.map_err(|source| LauncherConnectionError::Start {
                    program: program.clone(),
                    source,
                })?;
                (socket, Some(exit))
            }
            LauncherSource::Socket(path) => {
                let connected =
                    connect(path).map_err(|source| LauncherConnectionError::Connect {
                        socket: path.clone(),
                        source,
                    })?;
                (connected, None)
            }
        };
        let hello = timeout(HELLO_TIMEOUT, shake_hands(settings, &socket)).await;
        let hello = hello.map_err(|_| LauncherConnectionError::Silent {
            launcher: settings.source.clone(),
            source: io::ErrorKind::TimedOut.into(),
        })??;
        Ok(LauncherConnection {
            socket,
            buffer: packet_buffer(),
            hello,
            exit,
        })
    }

    /// Returns the launcher's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Returns the launcher's user: 0 can start commands as anybody.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.hello.uid
    }

    /// Returns what the launcher can do.
    #[must_use]
    pub fn abilities(&self) -> &Abilities {
        &self.hello.abilities
    }

    /// Returns what escherd's other parts may know of the launcher.
    pub fn state(&self) -> LauncherState {
        LauncherState {
            pid: self.hello.pid,
            abilities: self.hello.abilities.clone(),
        }
    }

    /// Closes the connection, and waits for the end of a launcher that is a child of this process.
    pub(super) async fn close(self) {
        drop(self.socket);
        if let Some(exit) = self.exit {
            // An error means that the thread that waits for the child has ended: no reason to wait.
            let _ = exit.await;
        }
    }

    /// Sends a request.
    pub(super) fn send(&self, request: &LauncherRequest) -> io::Result<()> {
        send(&self.socket, request)
    }

    /// Waits for the launcher's next message. Cancel-safe.
    pub(super) async fn next_event(&mut self) -> LauncherEvent {
        match receive(&self.socket, &mut self.buffer).await {
            Ok((LauncherReply::Shim { pid }, Some(socket))) => {
                match Shim::new(PacketSocket::from_descriptor(socket), pid) {
                    Ok(shim) => LauncherEvent::Forked(shim),
                    Err(error) => LauncherEvent::ForkFailed(error),
                }
            }
            Ok((LauncherReply::ForkFailed { errno }, _)) => {
                LauncherEvent::ForkFailed(Errno::from_raw(errno).into())
            }
            Ok((LauncherReply::ShimDied { pid, leftovers }, _)) => {
                LauncherEvent::ShimDied { pid, leftovers }
            }
            Ok((LauncherReply::FilesDeleted { files, ids }, _)) => {
                LauncherEvent::FilesDeleted { files, ids }
            }
            Ok((LauncherReply::ReadRevoked { ids, .. }, _)) => LauncherEvent::ReadRevoked { ids },
            Ok((LauncherReply::CgroupKilled { id, leftovers }, _)) => {
                LauncherEvent::CgroupKilled { id, leftovers }
            }
            Ok(_) => LauncherEvent::Disconnected(io::Error::other("unexpected message")),
            Err(error) => LauncherEvent::Disconnected(error),
        }
    }
}

/// Receives the launcher's first message.
async fn shake_hands(
    settings: &LauncherSettings,
    socket: &AsyncPacketSocket,
) -> Result<LauncherHello, LauncherConnectionError> {
    let launcher = || settings.source.clone();
    let silent = |source| LauncherConnectionError::Silent {
        launcher: launcher(),
        source,
    };
    let unexpected = |which| silent(io::Error::other(format!("unexpected {which} message")));
    let mut buffer = packet_buffer();
    let first = receive(socket, &mut buffer).await;
    let hello = match first {
        Ok((LauncherReply::Hello(hello), _)) => *hello,
        Ok(_) => return Err(unexpected("first")),
        // The packet is no message.
        Err(error) if error.kind() == io::ErrorKind::Other => return Err(unexpected("first")),
        Err(error) => return Err(silent(error)),
    };
    if hello.version != WIRE_VERSION {
        return Err(LauncherConnectionError::Version {
            launcher: launcher(),
            found: hello.version,
        });
    }
    let understood = hello.parts.ensure_understood(KNOWN_PARTS);
    understood.map_err(|source| LauncherConnectionError::Unsupported {
        launcher: launcher(),
        source,
    })?;
    let directories = hello.directories.as_ref();
    let directories = directories.map_err(|reason| LauncherConnectionError::Directories {
        launcher: launcher(),
        reason: reason.clone(),
    })?;
    ensure_same_directories(settings, directories)?;
    Ok(hello)
}

/// Checks that escherd looks for files where this launcher and its shims make them.
fn ensure_same_directories(
    settings: &LauncherSettings,
    directories: &Directories,
) -> Result<(), LauncherConnectionError> {
    for (option, found, wanted) in [
        ("--log-dir", &directories.log_dir, &settings.log_dir),
        ("--state-dir", &directories.state_dir, &settings.state_dir),
        (
            "--runtime-dir",
            &directories.runtime_dir,
            &settings.runtime_dir,
        ),
    ] {
        let found = Path::new(OsStr::from_bytes(found));
        if found != wanted {
            return Err(LauncherConnectionError::OtherDirectory {
                launcher: settings.source.clone(),
                option,
                found: found.display().to_string(),
                wanted: wanted.display().to_string(),
            });
        }
    }
    Ok(())
}

fn packet_buffer() -> Box<[u8]> {
    vec![0; MAX_PACKET_BYTES].into_boxed_slice()
}

fn send(socket: &AsyncPacketSocket, request: &LauncherRequest) -> io::Result<()> {
    let bytes = codec::encode(request).map_err(io::Error::other)?;
    socket.send_now(&bytes, None)
}

fn connect(path: &Path) -> io::Result<AsyncPacketSocket> {
    AsyncPacketSocket::new(PacketSocket::connect(path)?)
}

async fn receive(
    socket: &AsyncPacketSocket,
    buffer: &mut [u8],
) -> io::Result<(LauncherReply, Option<OwnedFd>)> {
    let packet = socket.receive(buffer).await?;
    let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
    let message = codec::decode(&buffer[..packet.length]);
    let message = message.map_err(|error: CodecError| io::Error::other(error))?;
    Ok((message, packet.descriptor))
}

/// Starts a launcher, with the control socket as its standard input and an empty environment. Returns
/// the other end of the socket, and a receiver that completes when the launcher was reaped.
fn spawn(
    program: &Path,
    settings: &LauncherSettings,
) -> io::Result<(AsyncPacketSocket, oneshot::Receiver<()>)> {
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
    // Its death shows on the socket; this thread only reaps it.
    let (reaped, exit) = oneshot::channel();
    std::thread::Builder::new()
        .name("launcher-reaper".to_owned())
        .spawn(move || {
            let _ = child.wait();
            let _ = reaped.send(());
        })?;
    Ok((AsyncPacketSocket::new(here)?, exit))
}
