//! A launcher under a keeper: these tests take the part of escherd and of the service manager.

mod cgroups;
mod lifetime;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use escher_launcher::ipc::packet::{PacketSocket, Waiting};
use escher_launcher::ipc::wire::{
    Abilities, Directories, LauncherReply, LauncherRequest, MAX_PACKET_BYTES,
};
use escher_protocol::{ExecutionId, Leftovers, Text, codec};
use tempfile::TempDir;

use crate::commands::claim;
use crate::launcher::PROGRAM;
use crate::shim::Orphan;
use crate::{Shim, raw, require_root};
use escher_testkit::report_skipped;
use escher_testkit::wait::readable;

/// A running keeper in a directory and, if it has one, a cgroup of its own.
struct Keeper {
    process: Child,
    pidfd: OwnedFd,
    /// Receives its notifications to the service manager (sd_notify(3)).
    notifications: UnixDatagram,
    cgroup: Option<Cgroup>,
    folder: TempDir,
}

/// A cgroup that is delegated to a keeper.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates one. Where that is not possible, reports that `what` is not tested.
    fn new(what: &str) -> Option<Self> {
        if !require_root(what) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let made = mount.map(|line| {
            let root = line.split(' ').nth(4).unwrap();
            let name = format!("escher-test-{}", ExecutionId::generate());
            let path = Path::new(root).join(name);
            fs::create_dir(&path).map(|()| Cgroup(path))
        });
        match made {
            Some(Ok(cgroup)) => Some(cgroup),
            other => {
                let error = other.map(|made| made.map(drop));
                report_skipped(&format!("needs cgroups of version 2 ({error:?})"), what);
                None
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("keeper"));
        let removed = fs::remove_dir(&self.0);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

impl Keeper {
    /// Starts a keeper without cgroups and waits until it is ready.
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), None)
    }

    /// Starts a keeper with cgroups and waits until it is ready.
    fn start_with(cgroup: Cgroup) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Some(cgroup))
    }

    fn start_in(folder: TempDir, cgroup: Option<Cgroup>) -> Self {
        Self::start_program(Path::new(PROGRAM), folder, cgroup)
    }

    fn start_program(program: &Path, folder: TempDir, cgroup: Option<Cgroup>) -> Self {
        let notes = folder.path().join("notes");
        let _ = fs::remove_file(&notes);
        let socket = UnixDatagram::bind(&notes).unwrap();
        let mut command = Command::new("/bin/sh");
        let enter = match &cgroup {
            Some(cgroup) => format!("echo $$ > {}/cgroup.procs && ", cgroup.0.display()),
            None => String::new(),
        };
        command
            .args(["-c", &format!("{enter}exec \"$0\" \"$@\"")])
            .arg(program)
            .args(cgroup.iter().map(|_| "--delegated"))
            .args(["--keep", "--for", "root", "--socket"])
            .arg(folder.path().join("launcher.sock"))
            .args(["--log-dir".as_ref(), folder.path().join("log").as_os_str()])
            .args([
                "--state-dir".as_ref(),
                folder.path().join("state").as_os_str(),
            ])
            .args([
                "--runtime-dir".as_ref(),
                folder.path().join("run").as_os_str(),
            ])
            .env("NOTIFY_SOCKET", &notes)
            .stdin(std::process::Stdio::null());
        let process = command.spawn().unwrap();
        let keeper = Keeper {
            pidfd: raw::pidfd(process.id()).unwrap(),
            process,
            notifications: socket,
            cgroup,
            folder,
        };
        keeper.wait_for_notification("READY=1");
        keeper
    }

    /// Starts another in the place of one that was killed.
    fn restart(mut self) -> Self {
        self.process.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::start_in(folder, self.cgroup.take())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until it sends a notification with this line.
    fn wait_for_notification(&self, word: &str) {
        self.wait_for_line(word, |line| (line == word).then_some(()));
    }

    /// Waits until it sends its status, and returns that.
    fn next_status(&self) -> String {
        self.wait_for_line("a status", |line| {
            line.strip_prefix("STATUS=").map(str::to_owned)
        })
    }

    fn wait_for_line<T>(&self, what: &str, matches: impl Fn(&str) -> Option<T>) -> T {
        loop {
            assert!(
                readable(&self.notifications),
                "the keeper does not send {what}"
            );
            let mut note = [0; 4096];
            let length = self.notifications.recv(&mut note).unwrap();
            let note = String::from_utf8_lossy(&note[..length]);
            if let Some(found) = note.lines().find_map(&matches) {
                return found;
            }
        }
    }

    fn signal(&self, signal: i32) {
        raw::signal(self.pidfd.as_fd(), signal).unwrap();
    }

    /// Waits for its end.
    fn wait_for_end(mut self) -> ExitStatus {
        assert!(readable(&self.pidfd), "the keeper does not end");
        self.process.wait().unwrap()
    }

    /// Connects to the launcher as escherd.
    fn connect(&self) -> Escherd {
        self.try_connect().expect("directories that can be used")
    }

    /// Connects to the launcher as escherd and receives its first message; fails with its reason if
    /// it cannot use its directories.
    fn try_connect(&self) -> Result<Escherd, Text> {
        let control = PacketSocket::connect(&self.path("launcher.sock")).unwrap();
        let mut escherd = Escherd {
            control,
            launcher: 0,
            abilities: Abilities::default(),
        };
        let LauncherReply::Hello(hello) = escherd.receive() else {
            panic!("another first message");
        };
        assert_eq!(hello.directories?, directories_in(self.folder.path()));
        escherd.launcher = hello.pid;
        escherd.abilities = hello.abilities;
        Ok(escherd)
    }

    /// Connects to the shim `orphan`, which has claimed `id`.
    fn adopt(&self, orphan: &Orphan, id: ExecutionId) -> Shim {
        let directory = fs::File::open(self.path("run/shims")).unwrap();
        let socket = escher_launcher::ipc::shim_socket::connect(directory, &claim(id)).unwrap();
        orphan.reconnected(socket)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // At SIGTERM it ends all commands first. Fails if the test has ended the keeper itself.
        let _ = raw::signal(self.pidfd.as_fd(), libc::SIGTERM);
        if !readable(&self.pidfd) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// The directories of a keeper in this one.
fn directories_in(folder: &Path) -> Directories {
    let bytes = |name| folder.join(name).as_os_str().into();
    Directories {
        log_dir: bytes("log"),
        state_dir: bytes("state"),
        runtime_dir: bytes("run"),
    }
}

/// escherd's end of a launcher.
struct Escherd {
    control: PacketSocket,
    /// The launcher's process id.
    launcher: u32,
    abilities: Abilities,
}

impl Escherd {
    fn request(&self, request: &LauncherRequest) {
        let bytes = codec::encode(request).unwrap();
        self.control.send(&bytes, None, Waiting::Allowed).unwrap();
    }

    fn receive(&self) -> LauncherReply {
        self.receive_with_socket()
            .expect("the launcher has disconnected")
            .0
    }

    fn receive_with_socket(&self) -> Option<(LauncherReply, Option<OwnedFd>)> {
        assert!(readable(&self.control), "the launcher sends nothing");
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let packet = self.control.receive(&mut buffer, Waiting::Never).unwrap()?;
        let reply = codec::decode(&buffer[..packet.length]).unwrap();
        Some((reply, packet.descriptor))
    }

    fn shim(&self) -> Shim {
        self.request(&LauncherRequest::Fork { count: 1 });
        match self.receive_with_socket() {
            Some((LauncherReply::Shim { pid }, Some(socket))) => {
                Shim::new(pid, PacketSocket::from_descriptor(socket))
            }
            other => panic!("no shim but {other:?}"),
        }
    }

    /// Has the launcher kill the cgroup of an execution.
    fn kill_cgroup(&self, id: ExecutionId) -> Leftovers {
        self.request(&LauncherRequest::KillCgroup { id });
        loop {
            match self.receive() {
                LauncherReply::CgroupKilled { id: of, leftovers } if of == id => return leftovers,
                LauncherReply::ShimDied { .. } => {}
                other => panic!("cgroup not killed but {other:?}"),
            }
        }
    }

    /// Kills the launcher, and waits until it has disconnected.
    fn kill_launcher(&self) {
        let launcher = raw::pidfd(self.launcher).unwrap();
        raw::signal(launcher.as_fd(), libc::SIGKILL).unwrap();
        self.wait_for_disconnection();
    }

    /// Waits until the launcher has disconnected.
    fn wait_for_disconnection(&self) {
        while self.receive_with_socket().is_some() {}
    }
}
