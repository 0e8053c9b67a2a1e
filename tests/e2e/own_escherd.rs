//! A user's own escherd, alone and beside the system's: where it is, and which of both escherctl uses.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;

use escher_tests::{
    DEADLINE, Daemon, FinishedProgram, Home, RunningProgram, child_program, escherctl, escherd,
    launcher, reaper, require_root, run_program, wait,
};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, chown};
use serde_json::Value;

const ALICE: u32 = 61_001;
const SYSTEM_SOCKET: &str = "/run/escher/escherd.sock";

/// Makes `/run` an empty directory with other directories bound below it, for the programs that it starts
/// alone: the machine may have an escherd of its own.
const WITH_OTHER_RUN: &str = "mount -t tmpfs tmpfs /run
    while [ \"$1\" != -- ]; do mkdir -p \"$2\" && mount --bind \"$1\" \"$2\"; shift 2; done
    shift; exec \"$@\"";

/// A host with alice, on which there may be escherds.
struct Host {
    home: Arc<Home>,
    /// What is below `/run`: directories, and where they are.
    mounts: Vec<(PathBuf, String)>,
}

impl Host {
    fn new() -> Self {
        Host {
            home: Arc::new(Home::new()),
            mounts: Vec::new(),
        }
    }

    /// Starts the system's escherd, which alice may not use.
    fn start_system(&mut self) -> Daemon {
        let daemon = Daemon::builder().home(&self.home).start();
        let mount = (self.home.runtime(), "/run/escher".to_owned());
        self.mounts.push(mount);
        daemon
    }

    /// Gives alice a directory as a login does.
    fn log_alice_in(&mut self) {
        let directory = self.home.work().join("login");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(Uid::from_raw(ALICE)), None).unwrap();
        self.mounts.push((directory, format!("/run/user/{ALICE}")));
    }

    /// The temporary directory of alice's escherd.
    fn temporary(&self) -> PathBuf {
        self.home.work().join(format!("escher-{ALICE}"))
    }

    /// A program that alice starts, without a variable that says where an escherd is.
    fn command(&self, uid: u32, before: &[&OsStr], program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_OTHER_RUN, "sh"]);
        for (directory, place) in &self.mounts {
            command.arg(directory).arg(place);
        }
        command
            .arg("--")
            .args(before)
            .arg(child_program())
            .args(["run-as", &format!("{uid}:{uid}:")])
            .arg(self.home.share(program))
            .env("TMPDIR", self.home.work())
            .env("HOME", self.home.work().join("alice"))
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("ESCHER_SOCKET")
            .env_remove("ESCHER_RECONNECT")
            .current_dir(self.home.work());
        command
    }

    fn ctl(&self, words: &[&str]) -> Command {
        let mut command = self.command(ALICE, &[], &escherctl());
        command.args(words);
        command
    }

    fn run(&self, words: &[&str]) -> FinishedProgram {
        run_program(self.ctl(words))
    }

    /// `escherd --user`.
    fn own(&self, before: &[&OsStr]) -> Command {
        let home = self.home.work().join("alice");
        if !home.exists() {
            fs::create_dir(&home).unwrap();
            chown(&home, Some(Uid::from_raw(ALICE)), None).unwrap();
        }
        let mut command = self.command(ALICE, before, &escherd());
        command
            .args(["--user", "--on-stop", "cancel", "--launcher"])
            .arg(self.home.share(&launcher()));
        command
    }

    /// Starts alice's escherd, as her service manager does.
    fn start_own(&self) -> OwnEscherd {
        let notify = self.home.work().join("notify");
        let ready = UnixDatagram::bind(&notify).unwrap();
        fs::set_permissions(&notify, Permissions::from_mode(0o666)).unwrap();
        let mut command = self.own(&[reaper().as_os_str()]);
        command
            .env("NOTIFY_SOCKET", &notify)
            .env("MANAGERPID", "1")
            .stdin(Stdio::piped());
        let mut reaper = RunningProgram::spawn(command, DEADLINE);
        let stdin = reaper.stdin();
        let mut message = [0; 4096];
        while !message.starts_with(b"READY=1") {
            message.fill(0);
            wait::receive(&ready, &mut message).expect("it becomes ready");
        }
        OwnEscherd { reaper, stdin }
    }
}

/// alice's escherd, which ends when its standard input does.
struct OwnEscherd {
    reaper: RunningProgram,
    stdin: ChildStdin,
}

impl OwnEscherd {
    fn stop(self) {
        drop(self.stdin);
        let ended = self.reaper.wait().expect(0);
        assert!(ended.out().ends_with("exited code 0\nclean\n"), "{ended:?}");
    }
}

fn diagnostics(ended: FinishedProgram) -> Vec<Value> {
    ended.json_lines()
}

/// Returns message and advice of a check.
fn diagnostic<'v>(diagnostics: &'v [Value], check: &str) -> (&'v str, &'v str) {
    let found = diagnostics.iter().find(|it| it["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} among {diagnostics:#?}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    (text("message"), text("advice"))
}

#[test]
fn an_own_escherd_needs_no_runtime_directory_of_a_login() {
    if !require_root("an escherd of another user") {
        return;
    }
    let host = Host::new();
    let own = host.start_own();
    let directory = host.temporary();
    let metadata = fs::metadata(&directory).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (ALICE, 0o700));
    // systemd-tmpfiles does not clean up what is locked.
    let file = File::open(&directory).unwrap();
    assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());

    let socket = directory.join("escherd.sock");
    for words in [
        &["run", "id", "-u"][..],
        &["--user", "run", "id", "-u"],
        &["--socket", socket.to_str().unwrap(), "run", "id", "-u"],
    ] {
        let ended = host.run(words).expect(0);
        assert_eq!((ended.out(), ended.err()), ("61001\n", ""), "{words:?}");
    }
    own.stop();
}

#[test]
fn an_own_escherd_uses_the_runtime_directory_of_a_login() {
    if !require_root("an escherd of another user") {
        return;
    }
    let mut host = Host::new();
    host.log_alice_in();
    let own = host.start_own();
    assert!(!host.temporary().exists());
    let info = host.run(&["--user", "info"]).expect(0);
    let first = format!("/run/user/{ALICE}/escher/escherd.sock (your own)");
    let line = info.out().lines().next().unwrap();
    assert!(
        line.starts_with("socket:") && line.ends_with(&first),
        "{line}"
    );
    own.stop();
}

/// A user who makes the directory first could take another user's commands, and their environment.
#[test]
fn a_temporary_directory_of_somebody_else_is_refused() {
    if !require_root("an escherd of another user") {
        return;
    }
    let host = Host::new();
    let directory = host.temporary();
    let refused = |reason: &str| {
        let reason = format!("{} is not private: {reason}", directory.display());
        let daemon = run_program(host.own(&[])).expect(2);
        assert!(daemon.err().contains(&reason), "{daemon:?}");
        let client = host.run(&["--user", "info"]).expect(1);
        assert!(client.err().contains(&reason), "{client:?}");
    };
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    refused("it belongs to user 0, not to user 61001");
    chown(&directory, Some(Uid::from_raw(ALICE)), None).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o770)).unwrap();
    refused("its mode is 0770, not 0700");
    fs::remove_dir(&directory).unwrap();
    symlink(host.home.work().join("alice"), &directory).unwrap();
    refused("it is not a directory");
}

#[test]
fn where_the_systems_escherd_may_not_be_used_ones_own_is() {
    if !require_root("an escherd of another user") {
        return;
    }
    let mut host = Host::new();
    host.log_alice_in();
    let system = host.start_system();
    let own = host.start_own();
    let socket = format!("/run/user/{ALICE}/escher/escherd.sock");

    let ended = host.run(&["run", "id", "-u"]).expect(0);
    let denied = format!("no permission to connect to {SYSTEM_SOCKET}");
    let notice = format!("escherctl: using your own escherd at {socket}: {denied}\n");
    assert_eq!((ended.out(), ended.err()), ("61001\n", notice.as_str()));
    let info = host.run(&["info", "--json"]).expect(0);
    assert_eq!(info.err(), "");
    assert_eq!(info.json_lines()[0]["socket"], socket);
    let ended = host.run(&["--system", "run", "id"]).expect(125);
    assert!(ended.err().contains(&denied), "{ended:?}");

    // A user who may use the system's escherd does so, and is told nothing.
    let mut of_root = host.command(0, &[], &escherctl());
    of_root.args(["info", "--json"]);
    let info = run_program(of_root).expect(0);
    assert_eq!(info.err(), "");
    assert_eq!(info.json_lines()[0]["socket"], SYSTEM_SOCKET);

    let both = diagnostics(host.run(&["doctor", "--json"]).expect(0));
    let (message, advice) = diagnostic(&both, "escherds");
    let listed = format!("there are {SYSTEM_SOCKET} (the system's) and {socket} (your own)");
    let chosen = format!("escherctl uses {socket}, since {denied}: ");
    assert!(
        message.starts_with(&listed) && message.contains(&chosen),
        "{message}"
    );
    assert!(advice.contains("--system"), "{advice}");
    let asked = diagnostics(host.run(&["doctor", "--user", "--json"]).expect(0));
    let (message, _) = diagnostic(&asked, "escherds");
    assert!(message.ends_with("since --user chooses it"), "{message}");
    drop(system);
    own.stop();
}

#[test]
fn doctor_advises_the_commands_of_the_users_own_service_manager() {
    if !require_root("an escherd of another user") {
        return;
    }
    let host = Host::new();
    let own = host.start_own();
    let config = host.home.work().join("alice/.config/escher");
    fs::create_dir_all(&config).unwrap();
    fs::write(
        config.join("escher.toml"),
        "[store]\ndurability = \"power\"\n",
    )
    .unwrap();
    let all = diagnostics(host.run(&["doctor", "--user", "--json"]).expect(0));
    let (_, advice) = diagnostic(&all, "configuration");
    assert!(
        advice.contains("`systemctl --user restart escherd`"),
        "{advice}"
    );
    let (_, advice) = diagnostic(&all, "cgroups");
    assert!(advice.contains("escherctl --system"), "{advice}");
    for one in &all {
        let advice = one["advice"].as_str().unwrap_or_default();
        for of_system in [
            "systemctl restart",
            "systemctl reload",
            "journalctl -u",
            "/etc/",
        ] {
            assert!(!advice.contains(of_system), "{one}");
        }
    }
    fs::write(
        config.join("escher.toml"),
        "[store]\ndurability = \"none\"\n",
    )
    .unwrap();
    let all = diagnostics(host.run(&["doctor", "--user", "--json"]).expect(1));
    let (message, advice) = diagnostic(&all, "configuration");
    assert!(
        message.contains("alice/.config/escher/escher.toml:2"),
        "{message}"
    );
    assert!(
        advice.contains("`escherctl config check --user`"),
        "{advice}"
    );
    own.stop();
}

#[test]
fn where_there_is_no_escherd_both_places_are_named_and_what_to_do() {
    if !require_root("a host without an escherd") {
        return;
    }
    let host = Host::new();
    let own = host.temporary().join("escherd.sock");
    let own = own.to_str().unwrap();
    let ended = host.run(&["run", "true"]).expect(125);
    for part in [
        SYSTEM_SOCKET,
        own,
        "systemctl start escherd",
        "escherd --user",
    ] {
        assert!(ended.err().contains(part), "{part} is not in {ended:?}");
    }
    let ended = host.run(&["--user", "run", "true"]).expect(125);
    assert!(ended.err().contains(own) && !ended.err().contains(SYSTEM_SOCKET));
    assert!(ended.err().contains("systemctl --user"), "{ended:?}");
    let ended = host.run(&["--system", "run", "true"]).expect(125);
    assert!(!ended.err().contains(own) && ended.err().contains(SYSTEM_SOCKET));

    let mut host = host;
    let system = host.start_system();
    let ended = host.run(&["run", "true"]).expect(125);
    for part in [
        "no permission",
        SYSTEM_SOCKET,
        own,
        "log in again",
        "escherd --user",
    ] {
        assert!(ended.err().contains(part), "{part} is not in {ended:?}");
    }
    drop(system);
}

#[test]
fn only_one_escherd_can_be_chosen() {
    for words in [
        &["--system", "--user", "info"][..],
        &["--system", "info", "--user"],
        &["--user", "info", "--socket", "/s"],
        &["info", "--system", "--socket", "/s"],
    ] {
        let mut command = Command::new(escherctl());
        command.args(words);
        let ended = run_program(command).expect(2);
        assert!(ended.err().contains("cannot be used with"), "{ended:?}");
    }
}

#[test]
fn reconnect_waits_for_ones_own_escherd_too() {
    if !require_root("an escherd of another user") {
        return;
    }
    let host = Host::new();
    let waiting = RunningProgram::spawn(
        host.ctl(&["--reconnect", "60s", "info", "--json"]),
        DEADLINE,
    );
    let own = host.start_own();
    let info = waiting.wait().expect(0);
    let socket = host.temporary().join("escherd.sock");
    assert_eq!(info.json_lines()[0]["socket"], socket.to_str().unwrap());
    own.stop();
}
