//! The program under test.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::packet::{PacketSocket, Waiting};
use escher_launcher::ipc::shim_socket::{self, SocketName};
use escher_launcher::ipc::wire::{
    Directories, ExecutionFiles, ExitReport, FIRST_ATTEMPT, LauncherHello, LauncherReply,
    LauncherRequest, MAX_PACKET_BYTES,
};
use escher_protocol::{ExecutionId, Leftovers, codec};
use tempfile::TempDir;

use crate::commands::claim;
use crate::shim::Orphan;
use crate::{Shim, raw};
use escher_testkit::wait::{DEADLINE, readable};

/// A user and group to which nothing on the host belongs.
pub(crate) const OTHER_USER: u32 = 54_321;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_escher-launcher");

/// A running launcher, in a folder of its own.
pub(crate) struct Launcher {
    process: Child,
    pidfd: OwnedFd,
    /// escherd's end of the control socket, until it is closed.
    control: Option<PacketSocket>,
    /// Pidfds of all shims that it has forked.
    shims: RefCell<Vec<OwnedFd>>,
    /// Reported deaths of shims that no test has read yet.
    deaths: RefCell<VecDeque<(u32, Leftovers)>>,
    hello: Option<LauncherHello>,
    folder: TempDir,
}

impl Launcher {
    pub(crate) fn start() -> Self {
        Self::start_by(&[])
    }

    /// Starts it by the program and arguments `prefix`, such as `env` or `nice`.
    pub(crate) fn start_by(prefix: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), prefix, Path::new(PROGRAM))
    }

    /// Starts it in a directory that `prepare` has filled.
    pub(crate) fn start_after(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        Self::start_in(folder, &[], Path::new(PROGRAM))
    }

    /// Starts it as [`OTHER_USER`] if the test is root, else as the test's own user.
    pub(crate) fn start_without_privileges() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::start_as(OTHER_USER)
        } else {
            Self::start()
        }
    }

    /// Starts it as this user and group, without others.
    pub(crate) fn start_as(user: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The build folder may be closed to other users.
        let copy = folder.path().join("escher-launcher");
        install(Path::new(PROGRAM), &copy, "755");
        chown(folder.path(), Some(user), Some(user)).unwrap();
        let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        Self::start_in(folder, &["setpriv", &user, &group, "--clear-groups"], &copy)
    }

    fn start_in(folder: TempDir, prefix: &[&str], program: &Path) -> Self {
        let (here, there) = PacketSocket::pair().unwrap();
        let mut command = match prefix {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let process = command
            .arg("--log-dir")
            .arg(folder.path().join("log"))
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--runtime-dir")
            .arg(folder.path().join("run"))
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Closes this process's copy of the launcher's end of the socket.
        drop(command);
        let pidfd = raw::pidfd(process.id()).unwrap();
        let mut launcher = Launcher {
            process,
            pidfd,
            control: Some(here),
            shims: RefCell::default(),
            deaths: RefCell::default(),
            hello: None,
            folder,
        };
        launcher.hello = match launcher.receive().expect("a hello").0 {
            LauncherReply::Hello(hello) => Some(*hello),
            other => panic!("{other:?}"),
        };
        launcher
    }

    /// Returns its first message.
    pub(crate) fn hello(&self) -> &LauncherHello {
        self.hello.as_ref().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns a path in its directory, for files of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn directories(&self) -> Directories {
        let bytes = |name| self.path(name).as_os_str().into();
        Directories {
            log_dir: bytes("log"),
            state_dir: bytes("state"),
            runtime_dir: bytes("run"),
        }
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.path("log")
    }

    pub(crate) fn log(&self, id: ExecutionId) -> PathBuf {
        self.log_dir().join(format!("{id}.log"))
    }

    pub(crate) fn index(&self, id: ExecutionId) -> PathBuf {
        self.log_dir().join(format!("{id}.idx"))
    }

    pub(crate) fn exit_dir(&self) -> PathBuf {
        self.path("state").join(exit_record::DIRECTORY)
    }

    pub(crate) fn exit_record(&self, id: ExecutionId) -> ExitReport {
        let path = self
            .exit_dir()
            .join(exit_record::file_name(id, FIRST_ATTEMPT));
        exit_record::read(&path).unwrap()
    }

    /// The names of all exit records.
    pub(crate) fn exit_records(&self) -> Vec<String> {
        names(&self.exit_dir())
    }

    pub(crate) fn shim_dir(&self) -> PathBuf {
        self.path("run").join(shim_socket::DIRECTORY)
    }

    /// The names of the sockets of all shims, sorted as text.
    pub(crate) fn sockets(&self) -> Vec<SocketName> {
        let names = names(&self.shim_dir());
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Connects to a shim as a later escherd does.
    pub(crate) fn connect(&self, name: &SocketName) -> io::Result<PacketSocket> {
        shim_socket::connect(File::open(self.shim_dir()).unwrap(), name)
    }

    /// Connects to the shim `orphan`, which has claimed `id`.
    pub(crate) fn adopt(&self, orphan: &Orphan, id: ExecutionId) -> Shim {
        let socket = self.connect(&claim(id)).unwrap();
        orphan.reconnected(socket)
    }

    /// Returns its children, in no order: the shims, and orphans of dead shims that it has not
    /// killed yet.
    pub(crate) fn children(&self) -> HashSet<u32> {
        let pid = self.pid();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().flat_map(str::parse).collect()
    }

    /// Waits until it reports the death of a shim.
    pub(crate) fn receive_shim_death(&self) -> (u32, Leftovers) {
        if let Some(death) = self.deaths.borrow_mut().pop_front() {
            return death;
        }
        match self.receive() {
            Some((LauncherReply::ShimDied { pid, leftovers }, None)) => (pid, leftovers),
            other => panic!("no death but {other:?}"),
        }
    }

    /// Has it delete files of executions, and returns the executions that have no such file any
    /// more.
    pub(crate) fn remove(&self, files: ExecutionFiles, ids: &[ExecutionId]) -> Vec<ExecutionId> {
        let ids = ids.to_vec();
        self.request(&LauncherRequest::DeleteFiles { files, ids });
        match self.receive_except_deaths() {
            Some((LauncherReply::FilesDeleted { files: of, ids }, None)) if of == files => ids,
            other => panic!("not removed but {other:?}"),
        }
    }

    /// Has it take the access to logs of executions from a user, and returns the executions for which
    /// that is done.
    pub(crate) fn revoke_read(&self, uid: u32, ids: &[ExecutionId]) -> Vec<ExecutionId> {
        let ids = ids.to_vec();
        self.request(&LauncherRequest::RevokeRead { uid, ids });
        match self.receive_except_deaths() {
            Some((LauncherReply::ReadRevoked { uid: of, ids }, None)) if of == uid => ids,
            other => panic!("not revoked but {other:?}"),
        }
    }

    /// As `receive`, but keeps deaths of shims for later.
    fn receive_except_deaths(&self) -> Option<(LauncherReply, Option<OwnedFd>)> {
        loop {
            match self.receive()? {
                (LauncherReply::ShimDied { pid, leftovers }, None) => {
                    self.deaths.borrow_mut().push_back((pid, leftovers));
                }
                other => return Some(other),
            }
        }
    }

    pub(crate) fn request(&self, request: &LauncherRequest) {
        self.send(&codec::encode(request).unwrap());
    }

    /// Sends any bytes.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let control = self.control.as_ref().unwrap();
        control.send(bytes, None, Waiting::Allowed).unwrap();
    }

    /// Receives the next reply; `None` once the launcher has closed its end.
    pub(crate) fn receive(&self) -> Option<(LauncherReply, Option<OwnedFd>)> {
        let control = self.control.as_ref().unwrap();
        assert!(readable(control), "the launcher sends nothing");
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let packet = control.receive(&mut buffer, Waiting::Never).unwrap()?;
        let reply = codec::decode(&buffer[..packet.length]).unwrap();
        Some((reply, packet.descriptor))
    }

    pub(crate) fn shim(&self) -> Shim {
        self.shims(1).remove(0)
    }

    pub(crate) fn shims(&self, count: u32) -> Vec<Shim> {
        self.request(&LauncherRequest::Fork { count });
        (0..count)
            .map(|_| match self.receive_except_deaths() {
                Some((LauncherReply::Shim { pid }, Some(socket))) => {
                    let shim = Shim::new(pid, PacketSocket::from_descriptor(socket));
                    self.shims.borrow_mut().push(shim.pidfd());
                    shim
                }
                other => panic!("no shim but {other:?}"),
            })
            .collect()
    }

    /// Closes the control socket, as when escherd dies.
    pub(crate) fn close_control(&mut self) {
        self.control = None;
    }

    pub(crate) fn signal(&self, signal: i32) {
        raw::signal(self.pidfd.as_fd(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        assert!(readable(&self.pidfd), "the launcher does not end");
        self.process.wait().unwrap()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        self.control = None;
        let shims = self.shims.take();
        let signal_all = |signal| {
            for process in shims.iter().chain([&self.pidfd]) {
                let _ = raw::signal(process.as_fd(), signal);
            }
        };
        if failed {
            signal_all(libc::SIGTERM);
        }
        let stays = |process: &&OwnedFd| !readable(process);
        let left = shims.iter().chain([&self.pidfd]).filter(stays).count();
        signal_all(libc::SIGKILL);
        let _ = self.process.wait();
        if !failed {
            assert_eq!(left, 0, "processes were left after {DEADLINE:?}");
        }
    }
}

/// Copies a program, by another process: a file that is open for writing, in this process or in a
/// child that it is just forking, cannot be executed (ETXTBSY).
pub(crate) fn install(from: &Path, to: &Path, mode: &str) {
    let mut command = Command::new("install");
    let status = command.args(["-m", mode]).args([from, to]).status();
    assert!(status.unwrap().success());
}

/// Returns the names of the files in a directory, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().flatten().map(name).collect();
    names.sort();
    names
}
