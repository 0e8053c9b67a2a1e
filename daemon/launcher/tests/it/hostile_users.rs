//! Users who attack a shim through their own commands.
//!
//! From clone(2) to execve(2) a child runs in its shim's memory, for the last steps as the user.
//! A user who could write to that memory, or trace the child, would be root.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::{Blob, ExecutionId, Exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::commands::identity;
use crate::launcher::{PROGRAM, install};
use crate::{Launcher, OTHER_USER, exec, raw, require_root};
use escher_testkit::wait::DEADLINE;

/// How often the child has to be stopped before it executes its program.
const CATCHES: usize = 5;

/// Runs `work` on a thread that is [`OTHER_USER`].
pub(crate) fn as_other_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            raw::become_user_in_this_thread(OTHER_USER);
            work()
        });
        thread.join().unwrap()
    })
}

/// Returns what this thread can do to a process.
fn attack(pid: u32) -> Vec<&'static str> {
    let memory = format!("/proc/{pid}/mem");
    let mut won = Vec::new();
    if OpenOptions::new().write(true).open(&memory).is_ok() {
        won.push("write its memory");
    }
    if File::open(&memory).is_ok() {
        won.push("read its memory");
    }
    if raw::seize(pid).is_ok() {
        won.push("trace it");
    }
    won
}

/// Whether this host lets users trace processes of theirs (ptrace(2), "ptrace_scope").
fn users_may_trace() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    !matches!(scope.trim(), "2" | "3")
}

#[test]
fn users_can_neither_trace_nor_read_their_own_shim() {
    let launcher = Launcher::start_without_privileges();
    let shim = launcher.shim();
    let pid = shim.start(&exec(["sleep", "1000"]));
    let (on_shim, on_command) = if geteuid().is_root() {
        as_other_user(|| (attack(shim.pid()), attack(pid)))
    } else {
        (attack(shim.pid()), attack(pid))
    };
    shim.cancel(true);
    shim.finish();
    assert!(on_shim.is_empty(), "a user can {on_shim:?}");
    // The same attacks succeed on the command, which is the user's.
    if users_may_trace() {
        assert_eq!(on_command.len(), 3, "only {on_command:?}");
    }
}

#[test]
fn users_can_neither_trace_nor_signal_a_shim_of_root() {
    if !require_root("attacks on a shim of root") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let target = Pid::from_raw(shim.pid().cast_signed());
    let (won, signal) = as_other_user(|| (attack(shim.pid()), kill(target, Signal::SIGTERM)));
    assert!(won.is_empty(), "a user can {won:?}");
    assert_eq!(signal, Err(nix::errno::Errno::EPERM));
}

#[test]
fn a_user_who_stops_its_command_before_its_program_cannot_reach_the_shim() {
    if !require_root("attacks between set-uid and exec") {
        return;
    }
    let launcher = Launcher::start();
    let shim = launcher.shim();
    // A program that may be executed but not read cannot be traced either (ptrace(2)): whatever the
    // attack reaches is not the program, but what was there before it.
    fs::set_permissions(launcher.path(""), fs::Permissions::from_mode(0o711)).unwrap();
    let program = launcher.path("true");
    install(Path::new("/bin/true"), &program, "711");
    // execve(2) takes its time over a large environment.
    let variable = |index: u32| Blob::from(format!("V{index}={:064}", 0).as_str());
    let spec = LaunchSpec {
        identity: identity(OTHER_USER, OTHER_USER, &[]),
        environment: (0..15_000).map(variable).collect(),
        ..exec([program.into_os_string()])
    };

    let over = AtomicBool::new(false);
    let (sender, reported) = channel();
    let (answer, answered) = channel();
    let (won, caught) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let (sender, answered) = (sender, answered);
            raw::become_user_in_this_thread(OTHER_USER);
            let until = Instant::now() + DEADLINE;
            let (mut won, mut caught) = (Vec::new(), 0);
            while won.is_empty() && caught < CATCHES && Instant::now() < until {
                for child in children_of(shim.pid()) {
                    won.extend(attack(child));
                    let pid = Pid::from_raw(child.cast_signed());
                    if kill(pid, Signal::SIGSTOP).is_ok() {
                        sender.send(child).unwrap();
                        if answered.recv().unwrap() {
                            caught += 1;
                            won.extend(attack(child));
                        }
                        let _ = kill(pid, Signal::SIGCONT);
                    }
                }
            }
            over.store(true, Ordering::Release);
            (won, caught)
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                shim.launch(&LaunchSpec {
                    id: ExecutionId::generate(),
                    ..spec.clone()
                });
                assert_eq!(shim.finish().exit, Exit::Code(0));
            }
        });
        for pid in reported {
            answer.send(is_stopped_before_its_program(pid)).unwrap();
        }
        attacker.join().unwrap()
    });
    assert!(won.is_empty(), "a user can {won:?}");
    assert_eq!(caught, CATCHES, "the child was stopped too rarely");
}

/// Returns the children of a shim. The attacker must be fast, so it calls this in a loop.
fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().flat_map(str::parse).collect()
}

/// Waits until a process to which SIGSTOP was sent has stopped or ended, and returns whether it
/// still runs the launcher's program. Only its parent is notified of a stop, and only root may see
/// the program.
fn is_stopped_before_its_program(pid: u32) -> bool {
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        match stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next())
        {
            None | Some('Z' | 'X') => return false,
            Some('T' | 't') => break,
            Some(_) => std::thread::yield_now(),
        }
    }
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|program| program == fs::canonicalize(PROGRAM).unwrap())
}
