//! The launcher's loop: requests of escherd, ends of children, and signals.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use escher_protocol::{Exit, Parts, Text};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, geteuid};

use super::LauncherError;
use super::cgroup_kills::CgroupKills;
use super::control::{Control, Received};
use super::new_shim::{ForkedShim, NewShim, ShimSockets, fork_shim};
use super::orphans::{Ended, Orphans};
use super::{directories, file_removal, read_access};
use crate::ipc::shim_socket::{self, SocketName};
use crate::ipc::wire::{
    Abilities, Directories, LauncherHello, LauncherReply, LauncherRequest, LogDirAbilities,
    MAX_PACKET_BYTES, WIRE_VERSION,
};
use crate::os::DuringAction;
use crate::os::deadline::poll_timeout;
use crate::os::execution_cgroups::ExecutionCgroups;
use crate::os::file_holes::can_punch_holes;
use crate::os::signalfd::{self, Signals};
use crate::shim::{OpenDirectories, ProcessBaseline};
use crate::sys::process::{Reap, SignalTarget, reap, signal_child};

/// How long the launcher waits, after escherd has disconnected, for the ready shims to end as well.
const READY_SHIM_EXIT_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) struct Launcher {
    control: Control,
    signals: SignalFd,
    /// SIGTERM ends everything, SIGHUP the launcher alone.
    received_signals: Signals,
    /// The user of escherd.
    escherd_uid: u32,
    baseline: ProcessBaseline,
    directories: Directories,
    /// `None` until an escherd has connected, whose group they get.
    open_directories: Option<OpenDirectories>,
    /// What can be done in the directory of the logs, once it is open.
    log_dir: LogDirAbilities,
    cgroups: Option<ExecutionCgroups>,
    /// Every shim that was not reaped, with the first name of its socket.
    shims: HashMap<Pid, SocketName>,
    orphans: Orphans,
    cgroup_kills: CgroupKills,
}

/// How [`Launcher::serve`] ends.
pub(super) enum Served {
    /// The launcher is done.
    Done,
    /// This process is a shim, forked from the launcher.
    Forked(Box<NewShim>),
}

impl Launcher {
    pub(super) fn new(
        control: Control,
        signals: SignalFd,
        escherd_uid: u32,
        directories: Directories,
        cgroups: Option<ExecutionCgroups>,
        baseline: ProcessBaseline,
    ) -> Self {
        Launcher {
            control,
            signals,
            received_signals: Signals::default(),
            escherd_uid,
            baseline,
            directories,
            open_directories: None,
            log_dir: LogDirAbilities::default(),
            cgroups,
            shims: HashMap::new(),
            orphans: Orphans::default(),
            cgroup_kills: CgroupKills::default(),
        }
    }

    /// Whether escherd is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.control.is_connected()
    }

    /// Opens the directories, and creates those that are missing. `group` is the group of an
    /// escherd that runs as another user.
    ///
    /// # Errors
    /// When one cannot be created or opened.
    pub(super) fn open_directories(&mut self, group: Option<u32>) -> Result<(), LauncherError> {
        self.open_directories = None;
        let directories = directories::open(&self.directories, group)?;
        file_removal::remove_stale_sockets(directories.shims.as_fd())
            .during("remove the sockets of dead shims")?;
        self.log_dir = LogDirAbilities {
            punches_holes: can_punch_holes(directories.logs.as_fd()),
        };
        self.open_directories = Some(directories);
        Ok(())
    }

    /// Serves escherd until it has disconnected or a signal ends the launcher.
    ///
    /// # Errors
    /// Those of the control socket and of poll(2).
    pub(super) fn serve(mut self) -> io::Result<Served> {
        if self.control.is_connected() {
            self.send_hello(Ok(self.directories.clone()))?;
        }
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            // A signal may have come while the launcher waited for ready shims.
            if !self.received_signals.term && !self.received_signals.hangup {
                self.wait()?;
            }
            self.handle_signals();
            if self.received_signals.term {
                self.end_all_shims()?;
                return Ok(Served::Done);
            }
            if self.received_signals.hangup {
                return Ok(Served::Done);
            }
            self.kill_orphans();
            self.report_cgroup_kills()?;
            if !self.control.is_connected() {
                self.accept_escherd()?;
            }
            match self.control.receive(&mut buffer)? {
                Received::Request(request) => {
                    if let Some(shim) = self.handle_request(request)? {
                        return Ok(Served::Forked(Box::new(shim)));
                    }
                }
                Received::Disconnected => {
                    self.reap_ready_shims()?;
                    if !self.control.is_listening() {
                        return Ok(Served::Done);
                    }
                }
                Received::Nothing => {}
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let control = self.control.next_readable();
        polled.extend(control.map(|control| PollFd::new(control, PollFlags::POLLIN)));
        polled.extend(self.cgroup_kills.poll_fds());
        let deadlines = [self.orphans.deadline(), self.cgroup_kills.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        match poll(&mut polled, poll_timeout(deadline)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn accept_escherd(&mut self) -> io::Result<()> {
        if let Some(peer) = self.control.accept()? {
            let opened = self.open_directories(Some(peer.gid));
            let directories = opened.map(|()| self.directories.clone());
            self.send_hello(directories.map_err(|error| error.to_string().into()))?;
        }
        Ok(())
    }

    fn send_hello(&self, directories: Result<Directories, Text>) -> io::Result<()> {
        let hello = LauncherReply::Hello(Box::new(LauncherHello {
            version: WIRE_VERSION,
            pid: std::process::id(),
            uid: geteuid().as_raw(),
            directories,
            abilities: Abilities {
                program: env!("CARGO_PKG_VERSION").into(),
                log_dir: self.log_dir,
                cgroups: self.cgroups.as_ref().map(ExecutionCgroups::controllers),
                process: self.baseline.defaults(),
            },
            parts: Parts::new(),
        }));
        self.control.send(&hello, None)
    }

    /// Handles a request. Returns the new shim in a process that was forked for it.
    fn handle_request(&mut self, request: LauncherRequest) -> io::Result<Option<NewShim>> {
        match request {
            LauncherRequest::Fork { count } => {
                if let Some(sockets) = self.fork_shims(count)? {
                    return self.become_shim(sockets).map(Some);
                }
            }
            LauncherRequest::DeleteFiles { files, ids } => {
                let cgroups = self.cgroups.as_ref();
                let ids = match &self.open_directories {
                    Some(directories) => file_removal::remove(directories, cgroups, files, ids),
                    None => Vec::new(),
                };
                let removed = LauncherReply::FilesDeleted { files, ids };
                self.control.send(&removed, None)?;
            }
            LauncherRequest::RevokeRead { uid, ids } => {
                let ids = match &self.open_directories {
                    Some(directories) => read_access::revoke(directories.logs.as_fd(), uid, ids),
                    None => Vec::new(),
                };
                let revoked = LauncherReply::ReadRevoked { uid, ids };
                self.control.send(&revoked, None)?;
            }
            LauncherRequest::KillCgroup { id } => {
                let cgroups = self.cgroups.as_ref();
                if let Some(leftovers) = self.cgroup_kills.begin(id, cgroups, Instant::now()) {
                    let killed = LauncherReply::CgroupKilled { id, leftovers };
                    self.control.send(&killed, None)?;
                }
            }
        }
        Ok(None)
    }

    fn report_cgroup_kills(&mut self) -> io::Result<()> {
        let cgroups = self.cgroups.as_ref();
        for (id, leftovers) in self.cgroup_kills.take_finished(cgroups, Instant::now()) {
            let killed = LauncherReply::CgroupKilled { id, leftovers };
            self.control.send(&killed, None)?;
        }
        Ok(())
    }

    /// Forks shims. Returns `None` in the launcher, and in each shim its sockets.
    fn fork_shims(&mut self, count: u32) -> io::Result<Option<ShimSockets>> {
        for _ in 0..count {
            match self.fork_shim() {
                Ok(None) => {}
                Ok(sockets) => return Ok(sockets),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    let failed = LauncherReply::ForkFailed { errno };
                    self.control.send(&failed, None)?;
                }
            }
        }
        Ok(None)
    }

    fn fork_shim(&mut self) -> io::Result<Option<ShimSockets>> {
        let Some(directories) = &self.open_directories else {
            // They cannot be opened, of which escherd was told.
            return Err(io::ErrorKind::NotConnected.into());
        };
        match fork_shim(&directories.shims, self.escherd_uid)? {
            ForkedShim::Child(sockets) => Ok(Some(sockets)),
            ForkedShim::Parent { pid, name, escherd } => {
                self.shims.insert(pid, name);
                let pid = pid.as_raw().unsigned_abs();
                let shim = LauncherReply::Shim { pid };
                self.control.send(&shim, Some(escherd.as_fd()))?;
                Ok(None)
            }
        }
    }

    /// Takes out what the shim keeps. The rest is dropped with the launcher: a shim that kept the
    /// control socket open would hide the launcher's death from escherd.
    fn become_shim(&mut self, sockets: ShimSockets) -> io::Result<NewShim> {
        let directories = self.open_directories.take();
        Ok(NewShim {
            sockets,
            directories: directories.ok_or(io::ErrorKind::NotConnected)?,
            cgroups: self.cgroups.take(),
            baseline: self.baseline,
        })
    }

    fn handle_signals(&mut self) {
        let signals = signalfd::read_pending(&self.signals);
        self.received_signals.term |= signals.term;
        self.received_signals.hangup |= signals.hangup;
        self.reap();
    }

    fn reap(&mut self) {
        let mut ended = Ended::default();
        while let Reap::Reaped(reaped) = reap() {
            match self.shims.remove(&reaped.pid) {
                None => ended.orphans.push(reaped),
                Some(_) if reaped.exit == Exit::Code(0) => ended.done_shims.push(reaped.pid),
                Some(first_name) => {
                    // A claim stays: it tells escherd which execution is lost.
                    if let Some(directories) = &self.open_directories {
                        shim_socket::remove(directories.shims.as_fd(), first_name);
                    }
                    ended.dead_shims.push(reaped.pid);
                }
            }
        }
        self.orphans.note_ends(&ended, Instant::now());
    }

    /// Kills the processes that dead shims have left, and reports each shim whose processes are
    /// gone. A send error is ignored: escherd has disconnected.
    fn kill_orphans(&mut self) {
        let is_shim = |child| self.shims.contains_key(&child);
        let found = self.orphans.kill(is_shim);
        self.reap();
        for (shim, leftovers) in self.orphans.take_finished(found, Instant::now()) {
            let pid = shim.as_raw().unsigned_abs();
            let died = LauncherReply::ShimDied { pid, leftovers };
            let _ = self.control.send(&died, None);
        }
    }

    /// At SIGTERM: has every shim run its kill ladder, and waits for them.
    fn end_all_shims(&mut self) -> io::Result<()> {
        for shim in self.shims.keys() {
            let _ = signal_child(*shim, libc::SIGTERM, SignalTarget::Process);
        }
        self.reap_until(None)
    }

    /// Reaps the ready shims, which end when escherd disconnects: not every process 1 reaps
    /// processes that it inherits. Shims with a command live on.
    fn reap_ready_shims(&mut self) -> io::Result<()> {
        self.reap_until(Some(Instant::now() + READY_SHIM_EXIT_TIMEOUT))
    }

    /// Reaps shims until there are none or the deadline has passed, and kills what dead shims have
    /// left.
    fn reap_until(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            self.kill_orphans();
            let in_time = deadline.is_none_or(|deadline| Instant::now() < deadline);
            if !in_time && self.control.is_listening() {
                // The loop goes on killing orphans; the next escherd need not wait for that.
                return Ok(());
            }
            let waits_for_shims = !self.shims.is_empty() && in_time;
            let until = match (waits_for_shims, self.orphans.deadline()) {
                (false, None) => return Ok(()),
                (false, orphans) => orphans,
                (true, orphans) => deadline.into_iter().chain(orphans).min(),
            };
            let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, poll_timeout(until)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.handle_signals();
        }
    }
}
