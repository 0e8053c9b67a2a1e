//! The sockets of shims and their names.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use escher_launcher::ipc::shim_socket::{self, SocketName};
use escher_launcher::ipc::wire::ToShim;
use escher_protocol::{ExecutionId, Exit, StartStage};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::Mode;

use crate::commands::{claim, with_input};
use crate::{Launcher, exec};

/// Makes a listening socket. It refuses connections once its descriptor is closed.
pub(crate) fn listening_socket(folder: &Path, name: &str) -> std::os::fd::OwnedFd {
    let kind = SockType::SeqPacket;
    let listener = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let folder = open(folder, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    bind(listener.as_raw_fd(), &UnixAddr::new(path.as_str()).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}

fn unused() -> SocketName {
    SocketName::Unused(uuid::Uuid::now_v7())
}

fn refusal(launcher: &Launcher, name: &SocketName) -> Option<io::ErrorKind> {
    launcher.connect(name).err().map(|error| error.kind())
}

#[test]
fn the_socket_of_a_shim_exists_before_escherd_learns_of_the_shim() {
    let launcher = Launcher::start();
    let shims = launcher.shims(5);
    let sockets = launcher.sockets();
    assert_eq!(sockets.len(), shims.len());
    for name in &sockets {
        assert!(matches!(name, SocketName::Unused(_)), "{name}");
        assert_eq!(refusal(&launcher, name), None);
    }
    assert_eq!(refusal(&launcher, &unused()), Some(io::ErrorKind::NotFound));
    let listed = shim_socket::list(File::open(launcher.shim_dir()).unwrap()).unwrap();
    assert_eq!(listed.len(), sockets.len());
    assert!(listed.iter().all(|name| sockets.contains(name)));
    // The connections have harmed no shim.
    for shim in &shims {
        assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    }
}

#[test]
fn the_socket_is_named_after_the_last_execution_until_the_shim_ends() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let first = with_input("read line");
    shim.start(&first);
    assert_eq!(launcher.sockets(), [claim(first.id)]);
    shim.input("go\n", true);
    shim.finish();
    assert_eq!(launcher.sockets(), [claim(first.id)]);
    // A command without a program is claimed, too.
    for spec in [exec(["true"]), exec(["/nonexistent"])] {
        shim.run(&spec);
        assert_eq!(launcher.sockets(), [claim(spec.id)]);
    }
    shim.wait_for_end();
    assert!(launcher.sockets().is_empty());
}

#[test]
fn shims_that_end_by_themselves_leave_no_socket() {
    let mut launcher = Launcher::start();
    let [idle, nonsense, alone, stopped] = launcher.shims(4).try_into().ok().unwrap();
    idle.wait_for_end();
    nonsense.send(&ToShim::AssignFromMemory);
    nonsense.wait_for_end();
    alone.launch(&exec(["true"]));
    alone.wait_for_end();
    stopped.start(&exec(["sleep", "1000"]));
    launcher.signal(libc::SIGTERM);
    stopped.finish();
    assert!(launcher.wait_for_end().success());
    assert!(launcher.sockets().is_empty());
}

#[test]
fn a_killed_shim_leaves_its_claim_which_refuses_connections() {
    let launcher = Launcher::start();
    let [busy, had_one, idle] = launcher.shims(3).try_into().ok().unwrap();
    let (running, over) = (exec(["sleep", "1000"]), exec(["true"]));
    busy.start(&running);
    had_one.run(&over);
    for shim in [&busy, &had_one, &idle] {
        shim.kill();
        assert_eq!(launcher.receive_shim_death().0, shim.pid());
    }
    // Only the socket of the unused shim was removed.
    let mut claims = [running.id, over.id].map(claim);
    claims.sort_by_key(ToString::to_string);
    assert_eq!(launcher.sockets(), claims);
    for name in &claims {
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(refusal(&launcher, name), refused);
    }
}

#[test]
fn a_shim_without_its_socket_starts_no_command() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let [name] = launcher.sockets().try_into().unwrap();
    fs::remove_file(launcher.shim_dir().join(name.to_string())).unwrap();
    let mark = launcher.path("mark");
    let exit = Exit::NotStarted {
        stage: StartStage::Prepare,
        errno: libc::ENOENT,
    };
    let report = shim.run(&exec(["touch".into(), mark.into_os_string()]));
    assert_eq!(report.exit, exit);
    assert!(!launcher.path("mark").exists());
    // It could not claim the next command either, so it ends.
    assert_eq!(shim.receive(), None);
}

#[test]
fn the_launcher_removes_unused_sockets_of_dead_shims_at_its_start() {
    let (dead, living, claimed) = (unused(), unused(), claim(ExecutionId::generate()));
    let mut lives = None;
    let launcher = Launcher::start_after(|folder| {
        let folder = folder.join("run").join(shim_socket::DIRECTORY);
        fs::create_dir_all(&folder).unwrap();
        for name in [&dead, &claimed] {
            drop(listening_socket(&folder, &name.to_string()));
        }
        lives = Some(listening_socket(&folder, &living.to_string()));
    });
    let sockets = launcher.sockets();
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    assert!(sockets.contains(&living) && sockets.contains(&claimed));
}

/// The address of a Unix socket has 108 bytes at most (unix(7)).
#[test]
fn the_runtime_directory_may_have_a_long_path() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("d".repeat(120)).join("e".repeat(120));
    let script = format!(
        r#"for part; do shift; [ "$last" = --runtime-dir ] && part={}; set -- "$@" "$part"; last=$part; done
        exec "$0" "$@""#,
        long.display()
    );
    let launcher = Launcher::start_by(&["/bin/sh", "-c", &script]);
    let shim = launcher.shim();
    let spec = exec(["true"]);
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    let sockets = File::open(long.join(shim_socket::DIRECTORY)).unwrap();
    assert!(shim_socket::connect(sockets, &claim(spec.id)).is_ok());
}
