//! A launcher that is a service of its own, with a cgroup for each command.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Builder, DEADLINE, Daemon, Home, is_root_for, launcher, say_skipped};

/// A keeper in a cgroup that is its own, until it is dropped; then every command of it ends.
#[derive(Debug)]
pub struct Keeper {
    process: Child,
    home: Arc<Home>,
    cgroup: PathBuf,
    /// The program that it runs.
    program: PathBuf,
    /// Where it says how it is.
    notes: UnixDatagram,
}

impl Keeper {
    /// One for an escherd of root. Where there can be none, says loudly that `what` was not tested.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn for_testing(what: &str) -> Option<Self> {
        if !is_root_for(what) {
            return None;
        }
        let home = Arc::new(Home::new());
        let Some(cgroup) = new_cgroup(&home) else {
            say_skipped("needs cgroups of version 2 that can be written to", what);
            return None;
        };
        let program = home.share(&launcher());
        let notes = home.work().join("keeper-notes");
        let heard = UnixDatagram::bind(&notes).expect("a socket for notifications");
        heard.set_read_timeout(Some(DEADLINE)).unwrap();
        // A process enters a cgroup by itself before it becomes the keeper, so that nothing of it is outside.
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            cgroup.display()
        );
        let process = Command::new("/bin/sh")
            .args(["-c", &enter])
            .arg(&program)
            .args(["--keep", "--delegated", "--for", "root", "--socket"])
            .arg(socket_in(&home))
            .env("NOTIFY_SOCKET", &notes)
            .stdin(Stdio::null())
            .spawn()
            .expect("a keeper");
        let keeper = Keeper {
            process,
            home,
            cgroup,
            program,
            notes: heard,
        };
        keeper.wait_until_ready();
        Some(keeper)
    }

    fn wait_until_ready(&self) {
        let mut note = [0; 256];
        loop {
            let length = self.notes.recv(&mut note).expect("the keeper gets ready");
            if &note[..length] == b"READY=1\n" {
                return;
            }
        }
    }

    /// Replaces the program's file, as the upgrade of a package does. What runs is the earlier file.
    ///
    /// # Panics
    /// When it cannot be replaced.
    pub fn replace_program(&self) {
        let new = self.program.with_extension("new");
        // By another process: see [`Home::file`].
        let copied = Command::new("cp").arg(&self.program).arg(&new).status();
        assert!(copied.expect("cp").success());
        fs::rename(&new, &self.program).expect("the program is replaced");
    }

    /// Has the keeper become the program that is installed now.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn reload(&self) {
        kill(self.pid(), Signal::SIGHUP).expect("the keeper is there");
        self.wait_until_ready();
    }

    /// A daemon that uses it.
    #[must_use]
    pub fn daemon(&self) -> Builder {
        Daemon::builder()
            .home(&self.home)
            .option("--launcher-socket", socket_in(&self.home))
    }

    /// Where commands have their cgroups.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let ended = self.process.wait();
        let removed = fs::remove_dir(self.cgroup.join("keeper"));
        let removed = removed.and_then(|()| fs::remove_dir(&self.cgroup));
        if !std::thread::panicking() {
            assert!(ended.unwrap().success());
            removed.expect("a cgroup that nobody is in");
        }
    }
}

fn socket_in(home: &Home) -> PathBuf {
    home.work().join("launcher.sock")
}

fn new_cgroup(home: &Home) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let name = home.path().file_name()?;
    let path = Path::new(mount.split(' ').nth(4)?).join(name);
    fs::create_dir(&path).ok().map(|()| path)
}
