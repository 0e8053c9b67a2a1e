//! An escherd that cannot start, under systemd, which listens for it: clients are told instead of waiting, and systemd
//! is told why.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::sync::Arc;

use escher_tests::{
    Ctl, DEADLINE, Daemon, FinishedProgram, Home, RunningProgram, Tmpfs, escherd, launcher,
    require_root, wait,
};
use nix::sys::signal::Signal;

/// systemd, as far as it matters here: the socket for clients, and notifications.
struct Systemd {
    home: Arc<Home>,
    clients: UnixListener,
    notifications: UnixDatagram,
}

impl Systemd {
    fn new(home: &Arc<Home>) -> Self {
        Systemd {
            home: Arc::clone(home),
            clients: UnixListener::bind(home.socket()).unwrap(),
            notifications: UnixDatagram::bind(home.path().join("notify-systemd")).unwrap(),
        }
    }

    /// Waits until a client is at the socket, as systemd does, and starts escherd with these settings.
    fn start_for_client(&self, settings: &str) -> RunningProgram {
        assert!(wait::readable(&self.clients));
        self.start(settings)
    }

    /// Starts escherd with these settings, as for `systemctl start`.
    fn start(&self, settings: &str) -> RunningProgram {
        let config = self.home.path().join("escher.toml");
        fs::write(&config, settings).unwrap();
        fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new("/bin/sh");
        // The shell's pid becomes escherd's, and the socket has to be number 3.
        command
            .arg("-c")
            .arg("exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"")
            .arg("sh")
            .arg(escherd())
            .arg("--config")
            .arg(&config)
            .args(self.home.arguments_with(launcher()))
            .env("NOTIFY_SOCKET", self.home.path().join("notify-systemd"))
            .stdin(Stdio::from(OwnedFd::from(
                self.clients.try_clone().unwrap(),
            )));
        RunningProgram::spawn(command, DEADLINE)
    }

    /// The status that escherd has reported.
    fn status(&self) -> String {
        let mut buffer = [0; 4096];
        let length = wait::receive(&self.notifications, &mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        text.trim_end()
            .strip_prefix("STATUS=")
            .expect(&text)
            .to_owned()
    }
}

fn told(client: RunningProgram) -> FinishedProgram {
    let ended = client.wait().expect(1);
    assert!(ended.err().contains("escherd cannot start"), "{ended:?}");
    ended
}

fn ctl(home: &Arc<Home>) -> Ctl {
    Ctl::new(Arc::clone(home))
}

#[test]
fn a_faulty_configuration_is_told_to_clients_and_to_systemd() {
    let home = Arc::new(Home::new());
    let systemd = Systemd::new(&home);
    let client = ctl(&home).start(["ps"]);
    let faulty = "[execution]\nsecret = \"x\"\n\nother = 1\n";
    let escherd = systemd.start_for_client(faulty);
    let first = told(client);
    // The next clients start no other escherd, and a stop does not wait for the end of that.
    for _ in 0..3 {
        let _ = told(ctl(&home).start(["ps"]));
    }
    escherd.signal(Signal::SIGTERM);
    let ended = escherd.wait().expect(2);
    let lines: Vec<&str> = ended.err().lines().collect();
    assert_eq!(lines.len(), 2, "a line for each fault: {ended:?}");
    assert!(lines[0].contains("escher.toml:2: ") && lines[1].contains("escher.toml:4: "));
    let status = systemd.status();
    let path = home.path().join("escher.toml");
    let expected = format!("cannot start: {}:2: ", path.display());
    assert!(status.starts_with(&expected), "{status}");
    assert!(status.ends_with(" (and 1 more)"), "{status}");
    assert!(
        first.err().contains("configuration is corrected"),
        "{first:?}"
    );
    assert!(!first.err().contains("secret"), "{first:?}");

    // Nobody waits for the one that a person starts, and it has failed at once.
    let _ = systemd.start(faulty).wait().expect(2);

    // With the next client systemd starts escherd again, and the file is right now.
    let client = ctl(&home).start(["ps"]);
    let escherd = systemd.start_for_client("");
    let _ = client.wait().expect(0);
    escherd.signal(Signal::SIGTERM);
    let _ = escherd.wait().expect(0);
}

/// What is no socket at all was "Socket operation on non-socket", of which nobody knew which.
#[test]
fn descriptors_from_systemd_that_cannot_be_used_are_named() {
    let home = Home::new();
    let socket = UnixListener::bind(home.socket()).unwrap();
    for (descriptors, expected) in [
        (
            "exec 3<&0 4<&0; LISTEN_FDS=2 LISTEN_FDNAMES=clients:other",
            "`other` is a second socket for clients",
        ),
        (
            "exec 3</dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=clients",
            "`clients`, passed by systemd, is no listening Unix stream socket",
        ),
    ] {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{descriptors} LISTEN_PID=$$ exec \"$@\""))
            .arg("sh")
            .arg(escherd())
            .args(home.arguments_with(launcher()))
            .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
        let ended = RunningProgram::spawn(command, DEADLINE).wait().expect(1);
        let expected = format!("escherd: cannot use the sockets from systemd: {expected}\n");
        assert_eq!(ended.err(), expected);
    }
}

#[test]
fn a_full_disk_is_named_and_clients_are_refused_until_the_next_start() {
    if !require_root("a full disk of the state directory") {
        return;
    }
    let home = Arc::new(Home::new());
    let disk = Tmpfs::mount(&home.state(), "4m");
    fs::set_permissions(home.state(), Permissions::from_mode(0o700)).unwrap();
    let daemon = Daemon::builder().home(&home).start();
    let _ = daemon.stop();
    // An escherd that could not close the store in time leaves this, and the next needs no space then.
    let _ = fs::remove_file(home.state().join("escher.db-shm"));
    disk.fill();
    let _ = fs::remove_file(home.socket());
    let systemd = Systemd::new(&home);
    let client = ctl(&home).start(["ps"]);
    let escherd = systemd.start_for_client("");
    let expected = format!("no space left on {}", home.state().display());
    let ended = told(client);
    assert!(ended.err().contains(&expected), "{ended:?}");
    assert_eq!(systemd.status(), format!("cannot start: {expected}"));
    // The same escherd tells others, and a stop does not wait for the end of that.
    let ended = told(ctl(&home).start(["ps"]));
    assert!(ended.err().contains(&expected), "{ended:?}");
    escherd.signal(Signal::SIGTERM);
    let ended = escherd.wait().expect(1);
    assert!(ended.err().contains(&expected), "{ended:?}");
    assert!(!ended.err().contains("set aside"), "{ended:?}");
}
