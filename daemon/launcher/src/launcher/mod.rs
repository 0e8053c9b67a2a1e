//! The launcher: forks shims while it is small, ends what shims that died have left behind, and deletes what
//! executions have left on disk.
//!
//! It says hello on its control socket and then serves [`LauncherRequest`]s until escherd's end is closed.
//! Its shims live on then, and on its own death. It stays single-threaded and allocates little, so that
//! forking it costs the same whatever the size of escherd.

mod orphans;
mod remains;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use escher_protocol::{Exit, Leftovers, codec};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, geteuid};

use crate::door::{self, Door};
use crate::packet::{PacketSocket, Waiting};
use crate::shim::{self, Directories, Surroundings};
use crate::sys::process::{
    ChildMemory, Fork, SignalTarget, Wait, fork, join_fresh_session_keyring, reap,
    restore_default_signals, signal_child,
};
use crate::wire::{LauncherReply, LauncherRequest, MAX_PACKET_BYTES, WIRE_VERSION};
use crate::{deadline, exit_record, shims};
use orphans::Orphans;
use shims::SocketName;

/// How long the launcher stays, once escherd is gone, for shims that go as well.
const SEE_OFF: Duration = Duration::from_millis(200);

/// Where commands leave what outlives them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the logs.
    pub log_dir: PathBuf,
    /// Directory in which the exit records have theirs.
    pub state_dir: PathBuf,
    /// Directory in which the sockets of the shims have theirs.
    pub runtime_dir: PathBuf,
}

/// Why a launcher does not run.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// A directory cannot be made or opened.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call that should not fail has.
    #[error("cannot {what}: {source}")]
    System {
        /// What it was for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> LauncherError {
    move |source| LauncherError::System { what, source }
}

/// Takes over the control socket, which escherd hands to the launcher as its standard input.
///
/// # Errors
/// When there is no descriptor 0, or none is left.
pub fn control_socket_from_stdin() -> io::Result<PacketSocket> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(null()?)?;
    Ok(PacketSocket::from_descriptor(control))
}

fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Runs the launcher on `control` until escherd closes its end, or until SIGTERM has brought every
/// command to its end. The shims that it forks return from here as well, each after its own life.
///
/// # Errors
/// When it cannot start or go on. A shim that cannot be forked is not among these: escherd is told.
pub fn run(settings: &Settings, control: PacketSocket) -> Result<(), LauncherError> {
    restore_default_signals();
    join_fresh_session_keyring();
    // Its own session: a Ctrl-C on escherd's terminal is for escherd. Fails for a leader, which is fine.
    let _ = nix::unistd::setsid();
    // What a shim that dies leaves behind comes here.
    prctl::set_child_subreaper(true).map_err(|error| system("become a subreaper")(error.into()))?;
    let directories = Directories {
        logs: open_directory(&settings.log_dir, 0o750)?,
        exits: open_directory(&settings.state_dir.join(exit_record::DIRECTORY), 0o700)?,
        shims: open_directory(&settings.runtime_dir.join(shims::DIRECTORY), 0o700)?,
    };
    remains::sweep(directories.shims.as_fd()).map_err(system("sweep the sockets of dead shims"))?;
    let launcher = Launcher {
        surroundings: survey(),
        directories,
        signals: listen_to_signals().map_err(system("listen to signals"))?,
        shims: HashMap::new(),
        orphans: Orphans::default(),
        control,
    };
    match launcher.serve().map_err(system("serve escherd"))? {
        Life::Over => Ok(()),
        Life::AsShim(shim) => shim.live().map_err(system("be a shim")),
    }
}

struct Launcher {
    surroundings: Surroundings,
    directories: Directories,
    signals: SignalFd,
    /// Every shim that was not reaped, with the first name of its socket.
    shims: HashMap<Pid, SocketName>,
    orphans: Orphans,
    control: PacketSocket,
}

/// How [`Launcher::serve`] ends: for good, or in a fork of it that goes on as a shim.
enum Life {
    Over,
    AsShim(NewShim),
}

impl Launcher {
    fn serve(mut self) -> io::Result<Life> {
        self.say(
            &LauncherReply::Hello {
                version: WIRE_VERSION,
                pid: std::process::id(),
                uid: geteuid().as_raw(),
            },
            None,
        )?;
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            let mut waited = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waited, deadline::timeout(self.orphans.deadline())) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.take_signals() {
                self.end_all()?;
                return Ok(Life::Over);
            }
            self.end_orphans();
            let received = match self.control.receive(&mut buffer, Waiting::Never) {
                // escherd has gone and left unread what was said to it last (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
                received => received,
            };
            match received {
                Ok(Some(packet)) => match codec::decode(&buffer[..packet.length]) {
                    Ok(LauncherRequest::Fork { count }) => {
                        if let Some((socket, door)) = self.fork_shims(count)? {
                            return Ok(Life::AsShim(self.into_shim(socket, door)));
                        }
                    }
                    Ok(LauncherRequest::Remove { remains, ids }) => {
                        let ids = remains::remove(&self.directories, remains, ids);
                        self.say(&LauncherReply::Removed { remains, ids }, None)?;
                    }
                    Ok(LauncherRequest::Use(_)) => {
                        let error = Some("it has its directories by its arguments".into());
                        self.say(&LauncherReply::InUse { error }, None)?;
                    }
                    Ok(LauncherRequest::Sweep { id }) => {
                        let leftovers = Leftovers::Unknown;
                        self.say(&LauncherReply::Swept { id, leftovers }, None)?;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                },
                Ok(None) => {
                    self.see_off_idle_shims()?;
                    return Ok(Life::Over);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where escherd has just gone nobody hears it; what is received next tells that, too.
    fn say(&self, message: &LauncherReply, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = codec::encode(message).map_err(io::Error::other)?;
        match self.control.send(&bytes, socket, Waiting::Allowed) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    /// In the launcher `None`; in each of the new shims its socket to escherd and that in the runtime
    /// directory.
    fn fork_shims(&mut self, count: u32) -> io::Result<Option<(PacketSocket, Door)>> {
        for _ in 0..count {
            match self.fork_shim() {
                Ok(None) => {}
                Ok(sockets) => return Ok(sockets),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.say(&LauncherReply::ForkFailed { errno }, None)?;
                }
            }
        }
        Ok(None)
    }

    fn fork_shim(&mut self) -> io::Result<Option<(PacketSocket, Door)>> {
        let (here, there) = PacketSocket::pair()?;
        // Made here, so that it is there before escherd hears of the shim.
        let door = Door::open(self.directories.shims.as_fd())?;
        // SAFETY: the launcher starts no thread.
        match unsafe { fork() }.inspect_err(|_| door.remove(self.directories.shims.as_fd()))? {
            Fork::Child => Ok(Some((there, door))),
            Fork::Parent(pid) => {
                self.shims.insert(pid, door.name());
                let pid = pid.as_raw().unsigned_abs();
                self.say(&LauncherReply::Shim { pid }, Some(here.as_fd()))?;
                Ok(None)
            }
        }
    }

    /// Lets go of all that is the launcher's alone. A shim that kept the control socket would hide the
    /// launcher's death from escherd.
    fn into_shim(self, socket: PacketSocket, door: Door) -> NewShim {
        NewShim {
            socket,
            door,
            directories: self.directories,
            surroundings: self.surroundings,
        }
    }

    /// Returns whether SIGTERM was among them.
    fn take_signals(&mut self) -> bool {
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            stop |= signal.ssi_signo == Signal::SIGTERM as u32;
        }
        self.reap();
        stop
    }

    fn reap(&mut self) {
        let (mut dead, mut orphans) = (Vec::new(), Vec::new());
        while let Wait::Reaped(reaped) = reap() {
            match self.shims.remove(&reaped.pid) {
                None => orphans.push(reaped),
                Some(_) if reaped.exit == Exit::Code(0) => {}
                Some(first_name) => {
                    // Not its claim, which tells escherd of an execution that was lost.
                    door::remove(self.directories.shims.as_fd(), first_name);
                    dead.push(reaped.pid);
                }
            }
        }
        if !dead.is_empty() || !orphans.is_empty() {
            self.orphans.note(&dead, &orphans, Instant::now());
        }
    }

    /// Kills what dead shims have left behind, and tells of those of which nothing is left. Where escherd is
    /// gone there is nobody to tell.
    fn end_orphans(&mut self) {
        let is_shim = |child| self.shims.contains_key(&child);
        for (shim, leftovers) in self.orphans.end(is_shim, Instant::now()) {
            let pid = shim.as_raw().unsigned_abs();
            let _ = self.say(&LauncherReply::ShimDied { pid, leftovers }, None);
        }
    }

    /// SIGTERM: every shim runs its kill ladder; the launcher waits for them.
    fn end_all(&mut self) -> io::Result<()> {
        for shim in self.shims.keys() {
            let _ = signal_child(*shim, libc::SIGTERM, SignalTarget::Process);
        }
        self.reap_until(None)
    }

    /// escherd is gone, and with it go the shims that were ready for it. They are reaped here, because not
    /// every process 1 does that for those it inherits. Those that have a command live on.
    fn see_off_idle_shims(&mut self) -> io::Result<()> {
        self.reap_until(Some(Instant::now() + SEE_OFF))
    }

    /// Reaps shims until there are none, or until the deadline, and ends to the last what dead ones have left
    /// behind.
    fn reap_until(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            self.end_orphans();
            let in_time = deadline.is_none_or(|deadline| Instant::now() < deadline);
            let for_shims = !self.shims.is_empty() && in_time;
            let until = match (for_shims, self.orphans.deadline()) {
                (false, None) => return Ok(()),
                (false, orphans) => orphans,
                (true, orphans) => deadline.into_iter().chain(orphans).min(),
            };
            let mut waited = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waited, deadline::timeout(until)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.take_signals();
        }
    }
}

/// A fork of the launcher that has let go of the launcher's things.
struct NewShim {
    socket: PacketSocket,
    door: Door,
    directories: Directories,
    surroundings: Surroundings,
}

impl NewShim {
    fn live(self) -> io::Result<()> {
        // The launcher's output may be a pipe whose reader waits for its end.
        nix::unistd::dup2_stdout(null()?)?;
        nix::unistd::dup2_stderr(null()?)?;
        shim::serve(self.socket, self.door, self.directories, self.surroundings)
    }
}

/// SIGCHLD and SIGTERM come by descriptor, everything else is left at its default.
fn listen_to_signals() -> io::Result<SignalFd> {
    let mut heard = SigSet::empty();
    heard.add(Signal::SIGCHLD);
    heard.add(Signal::SIGTERM);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&heard), None)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&heard, flags)?)
}

/// Opens a directory that only its owner can write to, making it if needed.
fn open_directory(path: &Path, mode: u32) -> Result<OwnedFd, LauncherError> {
    let fail = |source| LauncherError::Directory {
        path: path.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(fail)?;
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path)
        .map_err(fail)?;
    Ok(directory.into())
}

/// What the launcher was given by whoever started it, and commands are to be freed of.
fn survey() -> Surroundings {
    let privileged = geteuid().is_root();
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let plain = |text: String| text.trim() == "0";
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(libc::RLIM_INFINITY, |limits| limits.1);
    Surroundings {
        // With fs.suid_dumpable = 1 (proc_sys_fs(5)) a process that gives up root becomes traceable by
        // the user, and so would be the memory that it shares with the shim.
        child_memory: match read("/proc/sys/fs/suid_dumpable").trim() {
            "1" => ChildMemory::Copied,
            _ => ChildMemory::Shared,
        },
        reset_priority: privileged && (nice() != 0 || !plain(read("/proc/self/oom_score_adj"))),
        open_files_hard: hard,
    }
}

/// This process's nice value (proc_pid_stat(5), field 19).
fn nice() -> i32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = rest.split_ascii_whitespace().nth(16);
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}
