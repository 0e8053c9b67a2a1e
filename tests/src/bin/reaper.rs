//! Runs escherd and sees that nothing of it is left.
//!
//! `reaper [--patience SECONDS] [--listen SOCKET [--listen SOCKET]] PROGRAM ARG…` makes itself the parent of every orphan (PR_SET_CHILD_SUBREAPER, prctl(2)), starts
//! the program, and tells on standard output, one line each:
//!
//! ```text
//! pid 1234            the program was started
//! exited code 0       it has exited (or `exited signal 9`)
//! left 1240 sleep 60  still there at the end; one line for each process
//! clean | unclean     the last line
//! ```
//!
//! With `--listen` the program's standard input is a socket that listens there, and with a second one its standard
//! output, too; else they are `/dev/null`.
//!
//! When its standard input closes it sends SIGTERM to the program, and then everything has a while (by
//! default 20 seconds) to go; what has not is named, killed, and makes the exit status 1.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use escher_tests::{Descendants, descendants};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

/// The kill ladder's default grace and its own patience with a process that does not die, and a little.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program's pid while it was not reaped, when the number is surely its own.
type Alive = Arc<Mutex<Option<Pid>>>;

#[expect(clippy::zombie_processes, reason = "`reap_all` waits for it")]
fn main() -> ExitCode {
    nix::sys::prctl::set_child_subreaper(true).expect("to become a subreaper");
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut patience = PATIENCE;
    if arguments[0] == "--patience" {
        let seconds = arguments[1].to_str().expect("a number").parse();
        patience = Duration::from_secs(seconds.expect("a number"));
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

    let alive: Alive = Arc::new(Mutex::new(Some(pid)));
    let (gone, all_gone) = channel();
    std::thread::spawn({
        let alive = alive.clone();
        move || {
            reap_all(pid, &alive);
            let _ = gone.send(());
        }
    });
    let left = oversee(&alive, &all_gone, patience);
    for one in &left {
        println!("left {} {}", one.pid, one.command);
    }
    if left.is_empty() {
        println!("clean");
        ExitCode::SUCCESS
    } else {
        println!("unclean");
        ExitCode::FAILURE
    }
}

/// Waits for the end of everything; returns what had to be killed.
fn oversee(alive: &Alive, all_gone: &Receiver<()>, patience: Duration) -> Vec<Descendants> {
    let (told, closed) = channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = told.send(());
    });
    // Told to end, or everything has ended by itself: `all_gone` then reports at once.
    closed.recv().expect("the thread tells");
    if let Some(pid) = *alive.lock().unwrap() {
        let _ = kill(pid, Signal::SIGTERM);
    }
    let mut left = Vec::new();
    while all_gone.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let here = descendants(getpid());
        for one in &here {
            let _ = kill(one.pid, Signal::SIGKILL);
        }
        left.extend(here);
    }
    left
}

/// Reaps until there is no child left.
fn reap_all(program: Pid, alive: &Alive) {
    loop {
        // Look first, so that nobody signals a number that is already free.
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) => {
                let Some(pid) = status.pid() else { continue };
                let mut alive = alive.lock().unwrap();
                let status = waitpid(pid, None).expect("it has ended");
                if pid == program {
                    *alive = None;
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
