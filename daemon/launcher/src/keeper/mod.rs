//! The keeper: the main process of a service whose commands must outlive their launcher.
//!
//! The keeper owns the socket on which escherd connects, ensures that there is always a launcher to
//! accept it, and outlives a launcher that is killed or replaced. As the subreaper of everything
//! below it (prctl(2)) it inherits what a dead launcher leaves: shims, which go on, and processes
//! of dead shims, which it kills. It recognises shims by [their name](crate::os::process_name), and
//! spares what it does not recognise. At SIGTERM it has the kill ladder end every command. At SIGHUP it
//! executes its program anew, which an upgrade may have replaced, and starts a new launcher.

mod cgroup_delegation;
mod listener;
mod program;
mod remaining_commands;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_protocol::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, User, getpid};
use sd_notify::NotifyState;

use crate::ipc::wire::Directories;
use crate::os::deadline::poll_timeout;
use crate::os::process_tree::{children, with_descendants};
use crate::os::signalfd::{self, Blocked};
use crate::os::{DuringAction, SystemError};
use crate::shim::MAX_GRACE_AT_STOP;
use crate::sys::process::{
    Reap, SignalTarget, reap, restore_default_signals, signal_child, signal_pidfd,
};
use cgroup_delegation::DelegatedCgroup;
pub use cgroup_delegation::release_controllers;
use program::{Process, Program, is_launcher_or_shim};
use remaining_commands::RemainingCommands;

/// Shortest time between two starts of a launcher, so that a launcher that fails at once is not
/// started again and again without a pause.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// How long a launcher that is to be replaced may take to exit before it is killed.
const LAUNCHER_EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of a keeper, from its command line.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// Path of the socket on which escherd connects.
    pub socket: PathBuf,
    /// The user as whom escherd runs. Apart from root no other may use the socket.
    pub escherd_user: String,
    /// The directories of its launchers.
    pub directories: Directories,
    /// Whether the keeper may divide the cgroup in which it is started (`Delegate=yes` in its
    /// unit).
    pub is_delegated: bool,
}

/// Why a keeper cannot start or has failed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The user of escherd does not exist.
    #[error("escherd's user {0} does not exist on this host")]
    NoSuchUser(String),
    /// The socket cannot be created.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call has failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// Runs the keeper until SIGTERM has ended every command.
///
/// # Errors
/// When it cannot start. A launcher that cannot be started is retried instead.
pub fn keep(options: KeeperOptions) -> Result<(), KeeperError> {
    restore_default_signals();
    // Before anything else, so that no signal is missed.
    let signals = signalfd::block_and_open(Blocked::Handled).during("open a signalfd")?;
    prctl::set_child_subreaper(true).during("become a subreaper")?;
    let user = User::from_name(&options.escherd_user)
        .during("look up escherd's user")?
        .ok_or_else(|| KeeperError::NoSuchUser(options.escherd_user.clone()))?;
    let cgroup = match options.is_delegated.then(DelegatedCgroup::enter) {
        Some(Ok(cgroup)) => Some(cgroup),
        Some(Err(error)) => {
            log(&format!(
                "commands have no cgroups, so their resources are neither limited nor measured: {error}"
            ));
            None
        }
        None => None,
    };
    let socket_error = |source| KeeperError::Socket {
        path: options.socket.clone(),
        source,
    };
    let inherited = listener::inherited().map_err(socket_error)?;
    let is_successor = inherited.is_some();
    let listener = match inherited {
        Some(listener) => listener,
        None => listener::create(&options.socket, &user).map_err(socket_error)?,
    };
    let keeper = Keeper {
        program: Program::current().during("find this program")?,
        options,
        cgroup,
        signals,
        listener,
        launcher: None,
    };
    keeper.serve(is_successor).during("serve")?;
    Ok(())
}

struct Keeper {
    options: KeeperOptions,
    program: Program,
    /// `None` where no cgroup was delegated.
    cgroup: Option<DelegatedCgroup>,
    signals: SignalFd,
    listener: OwnedFd,
    launcher: Option<LauncherProcess>,
}

struct LauncherProcess {
    pid: Pid,
    started: Instant,
}

impl Keeper {
    fn serve(mut self, is_successor: bool) -> io::Result<()> {
        if !is_successor {
            // Shims of a keeper that was killed: `release_controllers` has removed their commands'
            // limits, which SIGHUP has them set again.
            for shim in self.shims() {
                let _ = signal_pidfd(shim.pidfd.as_fd(), libc::SIGHUP);
            }
        }
        // Children may have ended before the signalfd was opened.
        self.reap();
        self.kill_orphans();
        let is_started = self.start_launcher();
        let mut start_at = (!is_started).then(|| Instant::now() + RESTART_INTERVAL);
        notify(&[NotifyState::Ready]);
        loop {
            self.wait(start_at, &[])?;
            let signals = signalfd::read_pending(&self.signals);
            if let Some((launcher, exit)) = self.reap() {
                if !signals.term {
                    let ended = DescribeExit(exit);
                    log(&format!("the launcher {ended}; starting another"));
                }
                start_at = Some(Instant::now().max(launcher.started + RESTART_INTERVAL));
            }
            self.kill_orphans();
            if signals.term || (signals.hangup && self.execute_anew()?) {
                return self.end_all();
            }
            if self.launcher.is_none() {
                start_at.get_or_insert_with(Instant::now);
            }
            if start_at.is_some_and(|at| Instant::now() >= at) {
                start_at = None;
                if !self.start_launcher() {
                    start_at = Some(Instant::now() + RESTART_INTERVAL);
                }
            }
        }
    }

    /// Waits for a signal, for the end of one of `shims`, or for the deadline.
    fn wait(&self, deadline: Option<Instant>, shims: &[Process]) -> io::Result<()> {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let pidfds = shims.iter().map(|shim| shim.pidfd.as_fd());
        polled.extend(pidfds.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
        match poll(&mut polled, poll_timeout(deadline)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps all children that have ended. Returns the launcher with its exit if it is one of them.
    fn reap(&mut self) -> Option<(LauncherProcess, Exit)> {
        let mut ended = None;
        while let Reap::Reaped(reaped) = reap() {
            let is_launcher = |launcher: &mut LauncherProcess| launcher.pid == reaped.pid;
            if let Some(launcher) = self.launcher.take_if(is_launcher) {
                ended = Some((launcher, reaped.exit));
            }
        }
        ended
    }

    /// Kills the processes of dead shims: children that are neither shims nor the launcher, and
    /// that belong to a command. This is not reported: escherd has the next launcher kill the
    /// cgroup, and waits for that.
    fn kill_orphans(&self) {
        let launcher = self.launcher.as_ref().map(|launcher| launcher.pid);
        let orphans = children().into_iter().filter(|child| {
            Some(*child) != launcher && !is_launcher_or_shim(*child) && self.is_of_command(*child)
        });
        for orphan in with_descendants(orphans) {
            orphan.signal(&[libc::SIGKILL]);
        }
    }

    /// Whether a child that is neither shim nor launcher belongs to a command. It may be anybody's
    /// if it has left the cgroup that is delegated to the keeper or, where there is none, if the
    /// keeper is the first process of a container, to which all processes without parents come.
    fn is_of_command(&self, child: Pid) -> bool {
        match &self.cgroup {
            Some(cgroup) => cgroup.contains(child),
            None => getpid().as_raw() != 1,
        }
    }

    /// Returns all shims. Those of an earlier keeper that was killed are no descendants, but are in
    /// the leaf.
    fn shims(&self) -> Vec<Process> {
        let candidates = match &self.cgroup {
            Some(cgroup) => cgroup.leaf_processes(),
            None => children(),
        };
        let launcher = self.launcher.as_ref().map(|launcher| launcher.pid);
        candidates
            .into_iter()
            .filter(|pid| *pid != getpid() && Some(*pid) != launcher)
            .filter_map(Process::open)
            // After the pidfd was opened, so that it belongs to the process that is checked.
            .filter(|process| is_launcher_or_shim(process.pid))
            .collect()
    }

    /// Starts a launcher; returns whether that has worked.
    fn start_launcher(&mut self) -> bool {
        match self.spawn_launcher() {
            Ok(pid) => {
                let started = Instant::now();
                self.launcher = Some(LauncherProcess { pid, started });
                true
            }
            Err(error) => {
                let program = self.program.path().display();
                log(&format!("cannot start the launcher {program}: {error}"));
                false
            }
        }
    }

    /// Spawns a launcher with the listening socket as standard input and an empty environment.
    fn spawn_launcher(&self) -> io::Result<Pid> {
        let mut command = Command::new(self.program.path());
        command.arg("--for").arg(&self.options.escherd_user);
        self.add_directories(&mut command);
        if let Some(cgroup) = &self.cgroup {
            command.arg("--cgroups").arg(cgroup.root());
        }
        let child = command
            .env_clear()
            .stdin(self.listener.try_clone()?)
            .stdout(Stdio::null())
            .spawn()?;
        // `Keeper::reap` reaps it.
        Ok(Pid::from_raw(child.id().cast_signed()))
    }

    fn add_directories(&self, command: &mut Command) {
        let Directories {
            log_dir,
            state_dir,
            runtime_dir,
        } = &self.options.directories;
        for (option, directory) in [
            ("--log-dir", log_dir),
            ("--state-dir", state_dir),
            ("--runtime-dir", runtime_dir),
        ] {
            command.arg(option).arg(OsStr::from_bytes(directory));
        }
    }

    /// Ends the launcher and executes the program anew. All shims live on, and escherd's connection
    /// waits in the socket's backlog. Returns only if that was not possible: `true` because SIGTERM
    /// has come, `false` because the program cannot be executed.
    fn execute_anew(&mut self) -> io::Result<bool> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => log(&format!("cannot read the clock: {error}")),
        }
        let kill_at = Instant::now() + LAUNCHER_EXIT_TIMEOUT;
        while let Some(launcher) = &self.launcher {
            let (signal, deadline) = if Instant::now() < kill_at {
                (libc::SIGHUP, Some(kill_at))
            } else {
                (libc::SIGKILL, None)
            };
            let _ = signal_child(launcher.pid, signal, SignalTarget::Process);
            self.wait(deadline, &[])?;
            if signalfd::read_pending(&self.signals).term {
                return Ok(true);
            }
            self.reap();
        }
        let mut command = Command::new(self.program.path());
        command
            .arg("--keep")
            .arg("--socket")
            .arg(&self.options.socket)
            .arg("--for")
            .arg(&self.options.escherd_user);
        self.add_directories(&mut command);
        if self.options.is_delegated {
            command.arg("--delegated");
        }
        let error = command.stdin(self.listener.try_clone()?).exec();
        let program = self.program.path().display();
        log(&format!("cannot execute {program}: {error}"));
        notify(&[NotifyState::Ready]);
        Ok(false)
    }

    /// At SIGTERM: has every shim run its kill ladder, and waits for the last.
    fn end_all(mut self) -> io::Result<()> {
        notify(&[NotifyState::Stopping]);
        let mut signalled = HashSet::new();
        let mut commands = RemainingCommands::new(MAX_GRACE_AT_STOP);
        loop {
            let shims = self.shims();
            let mut has_more = false;
            for shim in &shims {
                // The launcher may have forked more since the last round.
                if signalled.insert(shim.pid) {
                    has_more |= commands.add(shim.pid);
                    let _ = signal_pidfd(shim.pidfd.as_fd(), libc::SIGTERM);
                }
            }
            let alive: HashSet<Pid> = shims.iter().map(|shim| shim.pid).collect();
            commands.keep(|shim| alive.contains(&shim));
            if let Some(summary) = commands.summary() {
                notify(&[NotifyState::Status(&summary)]);
                if has_more {
                    log(&summary);
                }
            }
            match &self.launcher {
                Some(launcher) => {
                    let _ = signal_child(launcher.pid, libc::SIGTERM, SignalTarget::Process);
                }
                None if shims.is_empty() => {
                    // Clients are to see that nothing listens there any more.
                    let _ = fs::remove_file(&self.options.socket);
                    return Ok(());
                }
                None => {}
            }
            self.wait(None, &shims)?;
            signalfd::read_pending(&self.signals);
            self.reap();
            self.kill_orphans();
        }
    }
}

/// Describes the exit of a launcher, for the log.
struct DescribeExit(Exit);

impl fmt::Display for DescribeExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Exit::Code(code) => write!(f, "has exited with status {code}"),
            Exit::Signal { signal, .. } => write!(f, "has died of signal {signal}"),
            Exit::NotStarted { .. } | Exit::Withdrawn | Exit::Unknown => f.write_str("has ended"),
        }
    }
}

/// Notifies the service manager, if there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log(&format!("cannot notify the service manager: {error}"));
    }
}

/// Writes a line to standard error, which under systemd is the journal.
fn log(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
