//! Runs escherd and checks that no process of it is left.
//!
//! ```text
//! reaper [--grace SECONDS] [--listen SOCKET [--listen SOCKET]] PROGRAM ARG…
//! ```
//!
//! It becomes the parent of every orphan (PR_SET_CHILD_SUBREAPER, prctl(2)), starts the program, and reports
//! on standard output, one line each:
//!
//! ```text
//! pid 1234            the program was started
//! exited code 0       it has exited (or `exited signal 9`)
//! left 1240 sleep 60  still running at the end; one line for each process
//! clean | unclean     the last line
//! ```
//!
//! With `--listen` the program's standard input is a socket that listens there, with a second one its
//! standard output, too; else they are `/dev/null`.
//!
//! When its standard input closes, it sends SIGTERM to the program. Processes that have not exited within the
//! grace period are reported and killed, and make the exit status 1.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_tests::{Descendant, descendants};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

/// Longer than the kill ladder's default grace period and its deadline for a process that does not die, also
/// on a slow machine.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

/// The program's pid until it is reaped: for as long as the number is surely its own.
type UnreapedPid = Arc<Mutex<Option<Pid>>>;

#[expect(clippy::zombie_processes, reason = "`reap_all` waits for it")]
fn main() -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).expect("to become a subreaper");
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut grace = DEFAULT_GRACE;
    if arguments[0] == "--grace" {
        let seconds = arguments[1].to_str().expect("a number").parse();
        grace = Duration::from_secs(seconds.expect("a number"));
        arguments.drain(..2);
    }
    let mut listen = || {
        if arguments[0] == "--listen" {
            let socket = UnixListener::bind(&arguments[1]).expect("to listen");
            arguments.drain(..2);
            Stdio::from(OwnedFd::from(socket))
        } else {
            Stdio::null()
        }
    };
    let (stdin, stdout) = (listen(), listen());
    let child = Command::new(&arguments[0])
        .args(&arguments[1..])
        .stdin(stdin)
        .stdout(stdout)
        .spawn()
        .expect("to start the program");
    let pid = Pid::from_raw(child.id().cast_signed());
    println!("pid {pid}");

    let unreaped: UnreapedPid = Arc::new(Mutex::new(Some(pid)));
    let (sender, all_exited) = channel();
    std::thread::spawn({
        let unreaped = unreaped.clone();
        move || {
            reap_all(pid, &unreaped);
            let _ = sender.send(());
        }
    });
    let left = end_all(&unreaped, &all_exited, grace);
    for process in &left {
        println!("left {} {}", process.pid, process.command);
    }
    if left.is_empty() {
        println!("clean");
        ExitCode::SUCCESS
    } else {
        println!("unclean");
        ExitCode::FAILURE
    }
}

/// Waits for the end of standard input, then for the exit of everything. Returns what had to be killed.
fn end_all(unreaped: &UnreapedPid, all_exited: &Receiver<()>, grace: Duration) -> Vec<Descendant> {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if let Some(pid) = *unreaped.lock().unwrap() {
        let _ = kill(pid, Signal::SIGTERM);
    }
    let mut left = Vec::new();
    while all_exited.recv_timeout(grace) == Err(RecvTimeoutError::Timeout) {
        let running = descendants(getpid());
        for process in &running {
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        left.extend(running);
    }
    left
}

/// Reaps until there is no child left.
fn reap_all(program: Pid, unreaped: &UnreapedPid) {
    loop {
        // Look first, and reap under the lock, so that nobody signals a number that is free already.
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) => {
                let Some(pid) = status.pid() else { continue };
                let mut unreaped = unreaped.lock().unwrap();
                let status = waitpid(pid, None).expect("it has exited");
                if pid == program {
                    *unreaped = None;
                    match status {
                        WaitStatus::Exited(_, code) => println!("exited code {code}"),
                        WaitStatus::Signaled(_, signal, _) => {
                            println!("exited signal {}", signal as i32);
                        }
                        other => println!("exited {other:?}"),
                    }
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return, // ECHILD
        }
    }
}
