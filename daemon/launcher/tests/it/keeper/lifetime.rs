//! Commands whose keeper, launcher or escherd ends or is replaced.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use escher_launcher::ipc::packet::{PacketSocket, Waiting};
use escher_launcher::ipc::wire::{EndCause, LauncherRequest};
use escher_protocol::{Canceller, ExecutionId, Exit, codec};

use super::{Cgroup, Keeper};
use crate::commands::with_input;
use crate::launcher::{PROGRAM, install};
use crate::{Fifo, OTHER_USER, exec, raw, require_root, shell};
use escher_testkit::wait::readable;

const HOST: EndCause = EndCause::Cancelled(Canceller::Host);

#[test]
fn a_killed_launcher_is_replaced_and_commands_run_on() {
    if !require_root("the death of a launcher under a keeper") {
        return;
    }
    let keeper = Keeper::start();
    let first = keeper.connect();
    let shim = first.shim();
    shim.start(&with_input("read -r line; exit 4"));
    first.kill_launcher();
    let second = keeper.connect();
    assert_ne!(first.launcher, second.launcher);
    assert_eq!(second.shim().run(&exec(["true"])).exit, Exit::Code(0));
    shim.input("go\n", true);
    assert_eq!(shim.finish().exit, Exit::Code(4));
}

#[test]
fn escherds_are_served_one_after_the_other_and_ready_shims_end_with_theirs() {
    if !require_root("several escherds at one launcher") {
        return;
    }
    let keeper = Keeper::start();
    let first = keeper.connect();
    let (idle, busy) = (first.shim(), first.shim());
    let spec = with_input("read -r line; exit 4");
    busy.start(&spec);
    drop(first);
    idle.wait_for_end();
    let busy = busy.disconnect();
    let second = keeper.connect();
    let busy = keeper.adopt(&busy, spec.id);
    assert_eq!(busy.receive_state().id, spec.id);
    busy.input("go\n", true);
    assert_eq!(busy.finish().exit, Exit::Code(4));
    assert_eq!(second.shim().run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn sigterm_is_handled_while_the_launcher_waits_for_ready_shims_to_end() {
    if !require_root("the stop of a keeper right after escherd's") {
        return;
    }
    let keeper = Keeper::start();
    let escherd = keeper.connect();
    let shim = escherd.shim();
    // This shim lives on, so that the launcher waits for it.
    shim.start(&exec(["sleep", "1000"]));
    drop(escherd);
    keeper.signal(libc::SIGTERM);
    assert_eq!(shim.finish().cause, HOST);
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}

#[test]
fn sighup_executes_the_program_anew_and_all_shims_live_on() {
    if !require_root("a keeper's change of program") {
        return;
    }
    let keeper = Keeper::start();
    let first = keeper.connect();
    let (busy, ready) = (first.shim(), first.shim());
    busy.start(&with_input("read -r line; exit 4"));
    keeper.signal(libc::SIGHUP);
    keeper.wait_for_notification("RELOADING=1");
    keeper.wait_for_notification("READY=1");
    first.wait_for_disconnection();
    let second = keeper.connect();
    assert_ne!(first.launcher, second.launcher);
    assert_eq!(ready.run(&exec(["true"])).exit, Exit::Code(0));
    busy.input("go\n", true);
    assert_eq!(busy.finish().exit, Exit::Code(4));
}

#[test]
fn sigterm_begins_the_kill_ladder_of_the_commands_of_every_launcher() {
    if !require_root("the stop of a keeper") {
        return;
    }
    let keeper = Keeper::start();
    let first = keeper.connect();
    let of_first = first.shim();
    of_first.start(&shell("trap 'exit 5' TERM; sleep 1000 & wait"));
    first.kill_launcher();
    let second = keeper.connect();
    let of_second = second.shim();
    of_second.start(&exec(["sleep", "1000"]));
    keeper.signal(libc::SIGTERM);
    keeper.wait_for_notification("STOPPING=1");
    let status = keeper.next_status();
    // Without cgroups the shims of a launcher that lives are known to that alone.
    let expected = "ending 1 command; SIGKILL in 60 s at the latest: process ";
    assert!(status.starts_with(expected), "{status}");
    assert!(status.contains(" (root) /bin/sh -c trap"), "{status}");
    assert_eq!(of_first.finish().cause, HOST);
    assert_eq!(of_second.finish().cause, HOST);
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}

#[test]
fn the_processes_of_a_killed_shim_of_an_earlier_launcher_are_killed() {
    if !require_root("orphans of earlier launchers") {
        return;
    }
    let keeper = Keeper::start();
    let first = keeper.connect();
    let (victim, other) = (first.shim(), first.shim());
    let fifo = Fifo::create(keeper.path("fifo"));
    let spec =
        crate::commands::shell_with("setsid -f sleep 1000; echo up > \"$0\"; wait", fifo.path());
    let _ = victim.start(&spec);
    let _ = fifo.read_line();
    other.start(&with_input("read -r line; exit 4"));
    let children = format!("/proc/{0}/task/{0}/children", victim.pid());
    let left = std::fs::read_to_string(children).unwrap();
    let left: Vec<_> = left
        .split_whitespace()
        .map(|pid| raw::pidfd(pid.parse().unwrap()).unwrap())
        .collect();
    assert!(!left.is_empty());
    first.kill_launcher();
    victim.kill();
    for process in &left {
        assert!(readable(process), "an orphan was not killed");
    }
    other.input("go\n", true);
    assert_eq!(other.finish().exit, Exit::Code(4));
}

/// The keeper took shims whose program was not where its own was for leftovers of commands, and killed
/// them.
#[test]
fn shims_live_on_when_the_program_is_renamed_or_deleted_and_can_be_ended() {
    if !require_root("a keeper whose program is moved") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (program, moved) = (folder.path().join("program"), folder.path().join("moved"));
    install(Path::new(PROGRAM), &program, "755");
    let keeper = Keeper::start_program(&program, folder, None);
    let first = keeper.connect();
    let (one, two, ready) = (first.shim(), first.shim(), first.shim());
    one.start(&with_input("read -r line; exit 4"));
    two.start(&exec(["sleep", "1000"]));
    std::fs::rename(&program, &moved).unwrap();
    first.kill_launcher();
    // The keeper cannot start another, and has seen the shims of this one once it tries again.
    one.input("go\n", true);
    assert_eq!(one.finish().exit, Exit::Code(4));
    std::fs::rename(&moved, &program).unwrap();
    let second = keeper.connect();
    assert_eq!(ready.run(&exec(["true"])).exit, Exit::Code(0));
    std::fs::remove_file(&program).unwrap();
    second.kill_launcher();
    assert_eq!(ready.run(&exec(["true"])).exit, Exit::Code(0));
    keeper.signal(libc::SIGTERM);
    assert_eq!(two.finish().cause, HOST);
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}

#[test]
fn the_keeper_spares_a_process_that_has_left_its_cgroup() {
    let Some(cgroup) = Cgroup::new("strangers among a keeper's children") else {
        return;
    };
    let outside = cgroup.0.parent().unwrap().join("cgroup.procs");
    let keeper = Keeper::start_with(cgroup);
    let first = keeper.connect();
    let shim = first.shim();
    let fifo = |name| Fifo::create(keeper.path(name));
    let (stranger, spared, orphan) = (fifo("stranger"), fifo("spared"), fifo("orphan"));
    let spec = shell(&format!(
        "setsid -f sh -c 'echo $$ > {outside}; echo > {1}; read -r line < {0}; echo $line > {1}'
        setsid -f sh -c 'echo $$ > {2}; exec sleep 1000'; wait",
        stranger.name(),
        spared.name(),
        orphan.name(),
        outside = outside.display(),
    ));
    shim.start(&spec);
    assert_eq!(spared.read_line(), "");
    let orphan = raw::pidfd(orphan.read_line().parse().unwrap()).unwrap();
    first.kill_launcher();
    shim.kill();
    // Both are children of the keeper now.
    assert!(readable(&orphan), "an orphan was not killed");
    stranger.write_line("alive");
    assert_eq!(spared.read_line(), "alive");
    keeper.connect().kill_cgroup(spec.id);
}

#[test]
fn commands_outlive_a_killed_keeper_and_the_next_one_can_end_them() {
    let Some(cgroup) = Cgroup::new("the death of a keeper") else {
        return;
    };
    let keeper = Keeper::start_with(cgroup);
    let first = keeper.connect();
    let (one, two) = (first.shim(), first.shim());
    one.start(&with_input("read -r line; exit 4"));
    two.start(&exec(["sleep", "1000"]));
    keeper.signal(libc::SIGKILL);
    // Its launcher ends, too.
    first.wait_for_disconnection();
    let keeper = keeper.restart();
    let second = keeper.connect();
    assert_eq!(second.shim().run(&exec(["true"])).exit, Exit::Code(0));
    one.input("go\n", true);
    assert_eq!(one.finish().exit, Exit::Code(4));
    keeper.signal(libc::SIGTERM);
    assert_eq!(two.finish().cause, HOST);
    one.wait_for_end();
    two.wait_for_end();
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}

#[test]
fn only_root_and_escherds_user_can_connect_to_the_keepers_socket() {
    if !require_root("who reaches the launcher") {
        return;
    }
    let keeper = Keeper::start();
    let path = keeper.path("launcher.sock");
    let found = path.metadata().unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_eq!((found.uid(), found.gid()), (0, 0));
    let folder = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(keeper.folder.path(), folder).unwrap();
    let refused = std::thread::spawn(move || {
        raw::become_user_in_this_thread(OTHER_USER);
        PacketSocket::connect(&path).unwrap_err().kind()
    });
    let refused = refused.join().unwrap();
    assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
}

#[test]
fn a_symbolic_link_in_place_of_a_directory_is_refused() {
    if !require_root("links in directories of escherd") {
        return;
    }
    let keeper = Keeper::start();
    let target = keeper.path("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::create_dir(keeper.path("state")).unwrap();
    std::os::unix::fs::symlink(&target, keeper.path("state/exits")).unwrap();
    let error = keeper.try_connect().err().expect("an error");
    assert!(error.contains("state/exits"), "{error}");
    assert_eq!(
        target.metadata().unwrap().permissions().mode() & 0o7777,
        0o755
    );
}

#[test]
fn the_keeper_can_be_stopped_while_an_escherd_does_not_read() {
    if !require_root("an escherd that hangs") {
        return;
    }
    let keeper = Keeper::start();
    let escherd = keeper.connect();
    // The launcher answers each request. The answers are not read, until both socket buffers are
    // full.
    let request = codec::encode(&LauncherRequest::KillCgroup {
        id: ExecutionId::generate(),
    })
    .unwrap();
    let full = loop {
        if let Err(error) = escherd.control.send(&request, None, Waiting::Never) {
            break error.kind();
        }
    };
    assert_eq!(full, std::io::ErrorKind::WouldBlock);
    keeper.signal(libc::SIGTERM);
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}
