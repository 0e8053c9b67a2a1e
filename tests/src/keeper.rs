//! A launcher that is a service of its own, with a cgroup for each command.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Daemon, DaemonBuilder, Home, launcher, report_skipped, require_root, wait};

/// A keeper in a cgroup of its own. Dropping it ends every command of it.
#[derive(Debug)]
pub struct Keeper {
    process: Child,
    home: Arc<Home>,
    cgroup: PathBuf,
    /// The file of its program.
    program: PathBuf,
    notifications: UnixDatagram,
}

impl Keeper {
    /// Starts one for an escherd of root. Where that is impossible, reports that `what` was not tested.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start_or_skip(what: &str) -> Option<Self> {
        if !require_root(what) {
            return None;
        }
        let home = Arc::new(Home::new());
        let Some(cgroup) = create_cgroup(&home) else {
            report_skipped("needs a writable file system of cgroups version 2", what);
            return None;
        };
        let program = home.share(&launcher());
        let notify = home.work().join("keeper-notify");
        let notifications = UnixDatagram::bind(&notify).expect("a socket for notifications");
        // The process enters the cgroup by itself before it becomes the keeper, so that nothing of it is
        // outside.
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            cgroup.display()
        );
        let process = Command::new("/bin/sh")
            .args(["-c", &enter])
            .arg(&program)
            .args(["--keep", "--delegated", "--for", "root", "--socket"])
            .arg(socket_in(&home))
            .arg("--log-dir")
            .arg(home.logs())
            .arg("--state-dir")
            .arg(home.state())
            .arg("--runtime-dir")
            .arg(home.runtime())
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .spawn()
            .expect("a keeper");
        let keeper = Keeper {
            process,
            home,
            cgroup,
            program,
            notifications,
        };
        keeper.wait_until_ready();
        Some(keeper)
    }

    fn wait_until_ready(&self) {
        let mut buffer = [0; 256];
        loop {
            let length = wait::receive(&self.notifications, &mut buffer);
            let length = length.expect("the keeper becomes ready");
            if &buffer[..length] == b"READY=1\n" {
                return;
            }
        }
    }

    /// Replaces the file of its program, as the upgrade of a package does. The keeper goes on with the old
    /// file.
    ///
    /// # Panics
    /// When it cannot be replaced.
    pub fn replace_program(&self) {
        let new = self.program.with_extension("new");
        // Another process copies it: see [`Home::file`].
        let copied = Command::new("cp").arg(&self.program).arg(&new).status();
        assert!(copied.expect("cp").success());
        fs::rename(&new, &self.program).expect("the program is replaced");
    }

    /// Has the keeper execute the file that is installed now.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn reload(&self) {
        kill(self.pid(), Signal::SIGHUP).expect("the keeper runs");
        self.wait_until_ready();
    }

    /// Prepares an escherd that uses it.
    #[must_use]
    pub fn daemon(&self) -> DaemonBuilder {
        Daemon::builder()
            .home(&self.home)
            .option("--launcher-socket", socket_in(&self.home))
    }

    /// The cgroup of the execution of root with this number and id.
    #[must_use]
    pub fn cgroup_of(&self, number: u64, id: &str) -> PathBuf {
        self.cgroup.join("user-0").join(format!("{number}-{id}"))
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
        let status = self.process.wait();
        wait_until_empty(&self.cgroup.join("keeper"));
        let removed = fs::remove_dir(self.cgroup.join("keeper"));
        let removed = removed.and_then(|()| fs::remove_dir(&self.cgroup));
        if !std::thread::panicking() {
            assert!(status.unwrap().success());
            assert!(removed.is_ok(), "{removed:?}: {}", remains(&self.cgroup));
        }
    }
}

/// Waits until no process is left in a cgroup: the last ones may still be on their way out of it.
fn wait_until_empty(cgroup: &Path) {
    let events = cgroup.join("cgroup.events");
    while let Ok(mut file) = fs::File::open(&events) {
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut file, &mut text);
        // A change since the file was read is reported, too (cgroups(7)).
        if read.is_err() || text.contains("populated 0") || !wait::changed(&file) {
            return;
        }
    }
}

/// Describes what keeps a cgroup from being removed.
fn remains(cgroup: &Path) -> String {
    let mut remains = String::new();
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        let processes = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
        remains += &format!("{}: ", entry.file_name().display());
        for pid in processes.lines() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let lines = status.lines().filter(|line| {
                ["Name:", "State:", "PPid:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            remains += &format!("{pid} {:?} ", lines.collect::<Vec<_>>());
        }
    }
    remains
}

fn socket_in(home: &Home) -> PathBuf {
    home.work().join("launcher.sock")
}

fn create_cgroup(home: &Home) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let name = home.path().file_name()?;
    let path = Path::new(mount.split(' ').nth(4)?).join(name);
    fs::create_dir(&path).ok().map(|()| path)
}
