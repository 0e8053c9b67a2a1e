//! The keeper: the main process of a service whose commands must outlive their launcher.
//!
//! It listens for escherd, sees to it that there is always a launcher to answer, and lives on when that is killed or
//! replaced. As the subreaper of everything below (prctl(2)) it inherits what a launcher that dies leaves: shims, which
//! go on, and the processes of shims that were killed, which it ends. SIGTERM brings every command to its end by the
//! kill ladder; at SIGHUP the keeper executes its program anew, as an upgrade has put it there, with a launcher that is
//! new, too.

mod cgroup_delegation;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_protocol::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, User, chown, geteuid, getpid};
use sd_notify::NotifyState;

use crate::launcher::listens;
use crate::os::deadline;
use crate::os::process_tree::{at_and_below, children};
use crate::os::signalfd::{self, Others};
use crate::sys::process::{
    SignalTarget, Wait, open_pidfd, reap, restore_default_signals, signal_child, signal_pidfd,
};
use cgroup_delegation::Ground;
pub use cgroup_delegation::make_room;

/// How many escherds may wait for a launcher. There is one at a time.
const BACKLOG: i32 = 8;

/// A launcher that has lived for less is followed by the next only after as long, so that one that cannot live does not
/// keep the machine busy.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a launcher may take to go when it is to be replaced.
const GOING: Duration = Duration::from_secs(5);

/// What a keeper is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket on which it listens for escherd.
    pub socket: PathBuf,
    /// The user as whom escherd runs: nobody else but root may use the socket.
    pub escherd: String,
    /// Whether the cgroup in which it is started is its own to divide (`Delegate=yes` in its unit).
    pub is_delegated: bool,
}

/// Why there is no keeper.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The user of escherd is not known.
    #[error("there is no user {0} on this host, as whom escherd is to run")]
    User(String),
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Its path.
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

fn system(what: &'static str) -> impl Fn(io::Error) -> KeeperError {
    move |source| KeeperError::System { what, source }
}

/// Keeps a launcher until SIGTERM has brought every command to its end.
///
/// # Errors
/// [`KeeperError`]. A launcher that cannot be started is not among these: it is tried again.
pub fn keep(settings: Settings) -> Result<(), KeeperError> {
    restore_default_signals();
    // First, so that none is missed.
    let signals = signalfd::listen(Others::Unblocked).map_err(system("listen to signals"))?;
    prctl::set_child_subreaper(true).map_err(|error| system("become a subreaper")(error.into()))?;
    let user = User::from_name(&settings.escherd)
        .map_err(|error| system("look up a user")(error.into()))?
        .ok_or_else(|| KeeperError::User(settings.escherd.clone()))?;
    let ground = match settings.is_delegated.then(Ground::take) {
        Some(Ok(ground)) => Some(ground),
        Some(Err(error)) => {
            say(&format!(
                "commands have no cgroups, so nothing is limited or measured by them: {error}"
            ));
            None
        }
        None => None,
    };
    let fail = |source| KeeperError::Socket {
        path: settings.socket.clone(),
        source,
    };
    let inherited = inherited_listener().map_err(fail)?;
    let is_successor = inherited.is_some();
    let listener = match inherited {
        Some(listener) => listener,
        None => listener(&settings.socket, &user).map_err(fail)?,
    };
    let keeper = Keeper {
        program: own_program().map_err(system("find this program"))?,
        settings,
        ground,
        signals,
        listener,
        launcher: None,
    };
    keeper.serve(is_successor).map_err(system("wait"))
}

struct Keeper {
    settings: Settings,
    /// This program's file, which an upgrade replaces.
    program: PathBuf,
    /// `None` where no cgroup was delegated.
    ground: Option<Ground>,
    signals: SignalFd,
    listener: OwnedFd,
    launcher: Option<Launcher>,
}

struct Launcher {
    pid: Pid,
    since: Instant,
}

impl Keeper {
    fn serve(mut self, is_successor: bool) -> io::Result<()> {
        if !is_successor {
            // Those of a keeper that was killed have lost their limits meanwhile (see `make_room`).
            for shim in self.shims() {
                let _ = signal_pidfd(shim.pidfd.as_fd(), libc::SIGHUP);
            }
        }
        // What an earlier keeper was not told of any more.
        self.reap();
        self.end_orphans();
        let is_started = self.start_launcher();
        let mut start_at = (!is_started).then(|| Instant::now() + PAUSE);
        notify(&[NotifyState::Ready]);
        loop {
            self.wait(start_at, &[])?;
            let heard = signalfd::take(&self.signals);
            if let Some((launcher, exit)) = self.reap() {
                if !heard.term {
                    say(&format!("the launcher {}; another follows", Ended(exit)));
                }
                start_at = Some(Instant::now().max(launcher.since + PAUSE));
            }
            self.end_orphans();
            if heard.term || (heard.hangup && self.renew()?) {
                return self.end_all();
            }
            if self.launcher.is_none() {
                start_at.get_or_insert_with(Instant::now);
            }
            if start_at.is_some_and(|at| Instant::now() >= at) {
                start_at = None;
                if !self.start_launcher() {
                    start_at = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    /// Waits for a signal, for the end of one of these shims, or for the deadline.
    fn wait(&self, deadline: Option<Instant>, shims: &[Process]) -> io::Result<()> {
        let mut waited = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let ends = shims.iter().map(|shim| shim.pidfd.as_fd());
        waited.extend(ends.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
        match poll(&mut waited, deadline::timeout(deadline)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps all that have ended. Returns the launcher, if it is among them, and how it has ended.
    fn reap(&mut self) -> Option<(Launcher, Exit)> {
        let mut ended = None;
        while let Wait::Reaped(reaped) = reap() {
            if let Some(launcher) = self.launcher.take_if(|one| one.pid == reaped.pid) {
                ended = Some((launcher, reaped.exit));
            }
        }
        ended
    }

    /// Kills the processes of dead shims: children that are neither shims nor the launcher. Nobody tells of them, and
    /// whoever waits for one of them hears of it by its cgroup.
    fn end_orphans(&self) {
        let launcher = self.launcher.as_ref().map(|launcher| launcher.pid);
        let is_orphan = |child: &Pid| Some(*child) != launcher && !self.runs_our_program(*child);
        let orphans = children().into_iter().filter(is_orphan);
        for orphan in at_and_below(orphans) {
            orphan.signal(&[libc::SIGKILL]);
        }
    }

    /// Whether a process runs the launcher's program, this version or an earlier one, as the keeper's own user: among the
    /// keeper's children, and in its leaf, that is a shim.
    fn runs_our_program(&self, pid: Pid) -> bool {
        let runs_it = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(program) => undeleted(&program) == self.program,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // What shims run may be seen with CAP_SYS_PTRACE alone. Where that is missing it is better to spare a
            // process than to kill a shim.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
        runs_it && is_user_of(pid, geteuid().as_raw())
    }

    /// All shims, of whichever launcher. Those of a keeper that was killed are no descendants, but in the leaf.
    fn shims(&self) -> Vec<Process> {
        let candidates = match &self.ground {
            Some(ground) => ground.inhabitants(),
            None => children(),
        };
        let launcher = self.launcher.as_ref().map(|launcher| launcher.pid);
        candidates
            .into_iter()
            .filter(|pid| *pid != getpid() && Some(*pid) != launcher)
            .filter_map(Process::open)
            // After it was opened, so that it is this one.
            .filter(|process| self.runs_our_program(process.pid))
            .collect()
    }

    /// Whether there is a launcher now.
    fn start_launcher(&mut self) -> bool {
        match self.spawn_launcher() {
            Ok(pid) => {
                let since = Instant::now();
                self.launcher = Some(Launcher { pid, since });
                true
            }
            Err(error) => {
                let program = self.program.display();
                say(&format!("cannot start the launcher {program}: {error}"));
                false
            }
        }
    }

    /// The launcher gets the listening socket as its standard input, and nothing of the keeper's environment.
    fn spawn_launcher(&self) -> io::Result<Pid> {
        let mut command = Command::new(&self.program);
        command.arg("--for").arg(&self.settings.escherd);
        if let Some(ground) = &self.ground {
            command.arg("--cgroups").arg(ground.root());
        }
        let child = command
            .env_clear()
            .stdin(self.listener.try_clone()?)
            .stdout(Stdio::null())
            .spawn()?;
        // It is reaped with all the others.
        Ok(Pid::from_raw(child.id().cast_signed()))
    }

    /// Lets the launcher go and executes the program anew. Commands and ready shims are not touched, and escherd waits
    /// at the socket. Where the program cannot be executed, this one goes on. Returns whether SIGTERM has come meanwhile.
    fn renew(&mut self) -> io::Result<bool> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => say(&format!("the clock cannot be read: {error}")),
        }
        let until = Instant::now() + GOING;
        while let Some(launcher) = &self.launcher {
            let (signal, deadline) = if Instant::now() < until {
                (libc::SIGHUP, Some(until))
            } else {
                (libc::SIGKILL, None)
            };
            let _ = signal_child(launcher.pid, signal, SignalTarget::Process);
            self.wait(deadline, &[])?;
            if signalfd::take(&self.signals).term {
                return Ok(true);
            }
            self.reap();
        }
        let mut command = Command::new(&self.program);
        command
            .arg("--keep")
            .arg("--socket")
            .arg(&self.settings.socket)
            .arg("--for")
            .arg(&self.settings.escherd);
        if self.settings.is_delegated {
            command.arg("--delegated");
        }
        let error = command.stdin(self.listener.try_clone()?).exec();
        let program = self.program.display();
        say(&format!("cannot execute {program}: {error}"));
        notify(&[NotifyState::Ready]);
        Ok(false)
    }

    /// SIGTERM: everything runs its kill ladder, and the keeper waits for the last.
    fn end_all(mut self) -> io::Result<()> {
        notify(&[NotifyState::Stopping]);
        let mut told = HashSet::new();
        loop {
            let shims = self.shims();
            for shim in &shims {
                // One that was forked meanwhile has not heard it.
                if told.insert(shim.pid) {
                    let _ = signal_pidfd(shim.pidfd.as_fd(), libc::SIGTERM);
                }
            }
            match &self.launcher {
                Some(launcher) => {
                    let _ = signal_child(launcher.pid, libc::SIGTERM, SignalTarget::Process);
                }
                None if shims.is_empty() => {
                    // Nobody answers there any more.
                    let _ = fs::remove_file(&self.settings.socket);
                    return Ok(());
                }
                None => {}
            }
            self.wait(None, &shims)?;
            signalfd::take(&self.signals);
            self.reap();
            self.end_orphans();
        }
    }
}

/// The end of a launcher, in words.
struct Ended(Exit);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Exit::Code(code) => write!(f, "has exited with status {code}"),
            Exit::Signal { signal, .. } => write!(f, "has died of signal {signal}"),
            Exit::NotStarted { .. } | Exit::Withdrawn | Exit::Unknown => f.write_str("is gone"),
        }
    }
}

/// A process that cannot be mistaken for another.
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    fn open(pid: Pid) -> Option<Self> {
        let pidfd = open_pidfd(pid).ok()?;
        Some(Process { pid, pidfd })
    }
}

/// Whether `pid` runs as `uid`. Its folder in /proc belongs to root if it may not be traced, whoever it is, so that
/// this asks for its status (proc_pid_status(5)): real, effective, saved and file system uid.
fn is_user_of(pid: Pid, uid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut uids = uids.unwrap_or_default().split_ascii_whitespace();
    uids.nth(1).and_then(|effective| effective.parse().ok()) == Some(uid)
}

/// This program's file, also if it was replaced since.
fn own_program() -> io::Result<PathBuf> {
    Ok(undeleted(&std::env::current_exe()?))
}

/// The path in proc_pid_exe(5), without the mark that it has where the file was replaced.
fn undeleted(program: &Path) -> PathBuf {
    let program = program.as_os_str().as_bytes();
    let path = program.strip_suffix(b" (deleted)").unwrap_or(program);
    PathBuf::from(OsStr::from_bytes(path))
}

/// The socket that this keeper was handed as standard input by the one that it was before.
fn inherited_listener() -> io::Result<Option<OwnedFd>> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Some(stdin).filter(|stdin| listens(stdin.as_fd())))
}

/// A new one.
fn listener(path: &Path, escherd: &User) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(directory)?;
    }
    match fs::symlink_metadata(path) {
        // That of a keeper that was killed.
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Closed to everybody until it belongs to whom it should.
    let mask = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixAddr::new(path).and_then(|address| bind(listener.as_raw_fd(), &address));
    umask(mask);
    bound?;
    chown(path, None, Some(escherd.gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

/// Without a service manager nobody is told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        say(&format!("the service manager cannot be told: {error}"));
    }
}

/// To standard error, which under systemd is the journal.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
