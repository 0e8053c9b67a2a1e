//! The launcher: forks shims while it is small, ends what shims that died have left behind, and deletes what
//! executions have left on disk.
//!
//! It says hello on its control socket and then serves [`LauncherRequest`]s until escherd's end is closed; under a
//! [keeper](crate::keeper) it then waits for the next escherd. Its shims live on then, and on its own death. It stays
//! single-threaded and allocates little, so that forking it costs the same whatever the size of escherd.

mod cgroup_kills;
mod control;
mod directories;
mod file_removal;
mod orphans;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use escher_protocol::{Exit, Parts};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, geteuid};

use crate::ipc::packet::PacketSocket;
use crate::ipc::shim_listener::{self, Door};
use crate::ipc::shim_socket::SocketName;
use crate::ipc::wire::{
    Abilities, Hello, LauncherReply, LauncherRequest, MAX_PACKET_BYTES, WIRE_VERSION,
};
use crate::os::cgroup::Cgroups;
use crate::os::deadline;
use crate::os::signalfd::{self, Others, Signals};
use crate::shim::{self, Directories, Surroundings};
use crate::sys::process::{
    ChildMemory, Fork, SignalTarget, Wait, fork, join_fresh_session_keyring, reap,
    restore_default_signals, signal_child,
};
use cgroup_kills::Sweeps;
pub(crate) use control::listens;
use control::{Control, Heard};
pub use directories::Places;
use orphans::Orphans;

/// How long the launcher stays, once escherd is gone, for shims that go as well.
const SEE_OFF: Duration = Duration::from_millis(200);

/// What a launcher is told by whoever has started it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where commands leave what outlives them; `None`: escherd will tell ([`LauncherRequest::Use`]).
    pub places: Option<Places>,
    /// The user as whom escherd runs, beside root and the launcher's own.
    pub escherd: Option<u32>,
    /// The directory under which executions have their cgroups; `None`: they have none.
    pub cgroups: Option<PathBuf>,
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
    /// Nobody has told the directories, and nobody will.
    #[error("--log-dir, --state-dir and --runtime-dir are missing")]
    Homeless,
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

/// Takes over the launcher's standard input: the control socket that escherd holds the other end of, or one that listens
/// for escherd.
///
/// # Errors
/// When there is no descriptor 0, or none is left.
pub fn control_from_stdin() -> io::Result<OwnedFd> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(null()?)?;
    Ok(control)
}

fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Runs the launcher on `control` until escherd closes its end, or, where others can come after it, until SIGHUP; or until
/// SIGTERM has brought every command to its end. The shims that it forks return from here as well, each after its own
/// life.
///
/// # Errors
/// When it cannot start or go on. A shim that cannot be forked is not among these: escherd is told.
pub fn run(settings: &Settings, control: OwnedFd) -> Result<(), LauncherError> {
    restore_default_signals();
    join_fresh_session_keyring();
    // Its own session: a Ctrl-C on escherd's terminal is for escherd. Fails for a leader, which is fine.
    let _ = nix::unistd::setsid();
    // What a shim that dies leaves behind comes here.
    prctl::set_child_subreaper(true).map_err(|error| system("become a subreaper")(error.into()))?;
    let own = geteuid().as_raw();
    let escherd = settings.escherd.unwrap_or(own);
    let signals = signalfd::listen(Others::Unblocked).map_err(system("listen to signals"))?;
    let control = Control::new(control, escherd);
    if !control.outlives_escherd() && settings.places.is_none() {
        return Err(LauncherError::Homeless);
    }
    if control.outlives_escherd() {
        leave_with_the_keeper().map_err(system("ask to hear of the keeper's end"))?;
    }
    let cgroups = settings.cgroups.as_deref().map(Cgroups::open).transpose();
    let mut launcher = Launcher {
        surroundings: survey(),
        directories: None,
        cgroups: cgroups.map_err(system("open the cgroup of executions"))?,
        signals,
        shims: HashMap::new(),
        orphans: Orphans::default(),
        sweeps: Sweeps::default(),
        control,
        escherd,
        escherd_group: None,
        heard: Signals::default(),
    };
    if let Some(places) = &settings.places {
        launcher.move_into(places, None)?;
    }
    match launcher.serve().map_err(system("serve escherd"))? {
        Life::Over => Ok(()),
        Life::AsShim(shim) => shim.live().map_err(system("be a shim")),
    }
}

/// The keeper's end is the launcher's, at which its shims go on (prctl(2), `PR_SET_PDEATHSIG`).
fn leave_with_the_keeper() -> io::Result<()> {
    let keeper = nix::unistd::getppid();
    prctl::set_pdeathsig(Signal::SIGHUP)?;
    // It may have gone before.
    if nix::unistd::getppid() == keeper {
        Ok(())
    } else {
        Err(io::ErrorKind::NotConnected.into())
    }
}

struct Launcher {
    surroundings: Surroundings,
    /// `None` until escherd has told them.
    directories: Option<Directories>,
    cgroups: Option<Cgroups>,
    signals: SignalFd,
    /// Every shim that was not reaped, with the first name of its socket.
    shims: HashMap<Pid, SocketName>,
    orphans: Orphans,
    sweeps: Sweeps,
    control: Control,
    /// The user of escherd.
    escherd: u32,
    /// The group of an escherd that came by itself.
    escherd_group: Option<u32>,
    /// SIGTERM ends everything, SIGHUP the launcher alone.
    heard: Signals,
}

/// How [`Launcher::serve`] ends: for good, or in a fork of it that goes on as a shim.
enum Life {
    Over,
    AsShim(NewShim),
}

impl Launcher {
    fn serve(mut self) -> io::Result<Life> {
        if self.control.has_escherd() {
            self.greet()?;
        }
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            // One may have been heard while shims were seen off.
            if !self.heard.term && !self.heard.hangup {
                self.wait()?;
            }
            self.take_signals();
            if self.heard.term {
                self.end_all()?;
                return Ok(Life::Over);
            }
            if self.heard.hangup {
                return Ok(Life::Over);
            }
            self.end_orphans();
            self.settle_sweeps()?;
            if !self.control.has_escherd() {
                self.let_in()?;
            }
            match self.control.receive(&mut buffer)? {
                Heard::Request(request) => {
                    if let Some(shim) = self.carry_out(request)? {
                        return Ok(Life::AsShim(shim));
                    }
                }
                Heard::Gone => {
                    self.see_off_idle_shims()?;
                    if !self.control.outlives_escherd() {
                        return Ok(Life::Over);
                    }
                }
                Heard::Nothing => {}
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut waited = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let control = self.control.awaited();
        waited.extend(control.map(|control| PollFd::new(control, PollFlags::POLLIN)));
        waited.extend(self.sweeps.awaited());
        let deadlines = [self.orphans.deadline(), self.sweeps.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        match poll(&mut waited, deadline::timeout(deadline)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Another escherd comes. It is told what an earlier one was.
    fn let_in(&mut self) -> io::Result<()> {
        if let Some(peer) = self.control.let_in()? {
            self.escherd_group = Some(peer.gid);
            self.greet()?;
        }
        Ok(())
    }

    fn greet(&self) -> io::Result<()> {
        let hello = LauncherReply::Hello(Hello {
            version: WIRE_VERSION,
            pid: std::process::id(),
            uid: geteuid().as_raw(),
            abilities: Abilities {
                program: env!("CARGO_PKG_VERSION").into(),
                // Another escherd may have told others.
                has_directories: !self.control.outlives_escherd(),
                cgroups: self.cgroups.as_ref().map(Cgroups::controllers),
            },
            parts: Parts::new(),
        });
        self.control.say(&hello, None)
    }

    /// Works in these directories from now on. `group` is that of an escherd which is another user.
    fn move_into(&mut self, places: &Places, group: Option<u32>) -> Result<(), LauncherError> {
        let directories = places.open(group)?;
        let swept = file_removal::sweep(directories.shims.as_fd());
        swept.map_err(system("sweep the sockets of dead shims"))?;
        self.directories = Some(directories);
        Ok(())
    }

    /// In a new shim, what it is.
    fn carry_out(&mut self, request: LauncherRequest) -> io::Result<Option<NewShim>> {
        match request {
            LauncherRequest::Fork { count } => {
                if let Some((socket, door)) = self.fork_shims(count)? {
                    return self.become_shim(socket, door).map(Some);
                }
            }
            LauncherRequest::Remove { artifact, ids } => {
                let cgroups = self.cgroups.as_ref();
                let ids = match &self.directories {
                    Some(directories) => file_removal::remove(directories, cgroups, artifact, ids),
                    None => Vec::new(),
                };
                let removed = LauncherReply::Removed { artifact, ids };
                self.control.say(&removed, None)?;
            }
            LauncherRequest::Use(directories) => {
                let used = self.move_into(&directories.into(), self.escherd_group);
                let error = used.err().map(|error| error.to_string().into());
                self.control.say(&LauncherReply::InUse { error }, None)?;
            }
            LauncherRequest::KillCgroup { id } => {
                let cgroups = self.cgroups.as_ref();
                if let Some(leftovers) = self.sweeps.begin(id, cgroups, Instant::now()) {
                    let swept = LauncherReply::CgroupKilled { id, leftovers };
                    self.control.say(&swept, None)?;
                }
            }
        }
        Ok(None)
    }

    fn settle_sweeps(&mut self) -> io::Result<()> {
        let cgroups = self.cgroups.as_ref();
        for (id, leftovers) in self.sweeps.settle(cgroups, Instant::now()) {
            let swept = LauncherReply::CgroupKilled { id, leftovers };
            self.control.say(&swept, None)?;
        }
        Ok(())
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
                    self.control
                        .say(&LauncherReply::ForkFailed { errno }, None)?;
                }
            }
        }
        Ok(None)
    }

    fn fork_shim(&mut self) -> io::Result<Option<(PacketSocket, Door)>> {
        // escherd asks before it has told them.
        let directories = self.directories.as_ref();
        let directory = directories
            .ok_or(io::ErrorKind::NotConnected)?
            .shims
            .as_fd();
        let (here, there) = PacketSocket::pair()?;
        // Made here, so that it is there before escherd hears of the shim.
        let door = Door::open(directory, self.escherd)?;
        // SAFETY: the launcher starts no thread.
        match unsafe { fork() }.inspect_err(|_| door.remove(directory))? {
            Fork::Child => Ok(Some((there, door))),
            Fork::Parent(pid) => {
                self.shims.insert(pid, door.name());
                let pid = pid.as_raw().unsigned_abs();
                let shim = LauncherReply::Shim { pid };
                self.control.say(&shim, Some(here.as_fd()))?;
                Ok(None)
            }
        }
    }

    /// Takes what is a shim's too. The rest is the launcher's alone, and goes with it: a shim that kept the control
    /// socket would hide the launcher's death from escherd.
    fn become_shim(&mut self, socket: PacketSocket, door: Door) -> io::Result<NewShim> {
        let directories = self.directories.take();
        Ok(NewShim {
            socket,
            door,
            directories: directories.ok_or(io::ErrorKind::NotConnected)?,
            cgroups: self.cgroups.take(),
            surroundings: self.surroundings,
        })
    }

    fn take_signals(&mut self) {
        let heard = signalfd::take(&self.signals);
        self.heard.term |= heard.term;
        self.heard.hangup |= heard.hangup;
        self.reap();
    }

    fn reap(&mut self) {
        let (mut dead, mut orphans) = (Vec::new(), Vec::new());
        while let Wait::Reaped(reaped) = reap() {
            match self.shims.remove(&reaped.pid) {
                None => orphans.push(reaped),
                Some(_) if reaped.exit == Exit::Code(0) => {}
                Some(first_name) => {
                    // Not its claim, which tells escherd of an execution that was lost.
                    if let Some(directories) = &self.directories {
                        shim_listener::remove(directories.shims.as_fd(), first_name);
                    }
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
            let died = LauncherReply::ShimDied { pid, leftovers };
            let _ = self.control.say(&died, None);
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
            if !in_time && self.control.outlives_escherd() {
                // There will be time for orphans, and the next escherd does not wait.
                return Ok(());
            }
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
    cgroups: Option<Cgroups>,
    surroundings: Surroundings,
}

impl NewShim {
    fn live(self) -> io::Result<()> {
        // The launcher's output may be a pipe whose reader waits for its end.
        nix::unistd::dup2_stdout(null()?)?;
        nix::unistd::dup2_stderr(null()?)?;
        let NewShim {
            socket,
            door,
            directories,
            cgroups,
            surroundings,
        } = self;
        shim::serve(socket, door, directories, cgroups, surroundings)
    }
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
