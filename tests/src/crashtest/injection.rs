//! Kills a process inside a system call, from outside: strace(1) can send a signal when a process enters the
//! n-th call of a kind. The programs know nothing of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::watch;

/// An strace that waits for its call. Detaches when dropped.
#[derive(Debug)]
pub(super) struct Injection {
    strace: Child,
    /// The file that it prints to.
    trace: PathBuf,
}

/// Whose system calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those of the process's one thread, and of nothing that it starts.
    OneThread,
    /// Those of all threads, and of what the process starts from then on.
    AllThreads,
}

impl Injection {
    /// Prepares to kill `pid` in the `count`-th of `calls` from now on. `None` if the process has exited
    /// before strace could attach.
    pub(super) fn kill_in(
        pid: Pid,
        reach: Reach,
        calls: &str,
        count: u64,
        directory: &Path,
    ) -> Option<Self> {
        let trace = directory.join("strace");
        let _ = std::fs::remove_file(&trace);
        let strace = Command::new("strace")
            .args((reach == Reach::AllThreads).then_some("-f"))
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:signal=SIGKILL:when={count}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&trace).unwrap())
            .spawn()
            .expect("strace is installed");
        let mut injection = Injection { strace, trace };
        let is_attached = watch::until(directory, || {
            let printed = injection.printed();
            if printed.contains(" attached") {
                return Some(true);
            }
            (printed.contains("attach:") || !injection.is_running()).then_some(false)
        });
        is_attached.then_some(injection)
    }

    /// Waits until the process has been killed, but no longer than `deadline`: it may never make such calls.
    pub(super) fn wait(&self, deadline: Duration) {
        let directory = self.trace.parent().expect("a file is in a directory");
        watch::within(directory, deadline, || {
            self.printed().contains("+++ killed by").then_some(())
        });
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.trace).unwrap_or_default()
    }

    fn is_running(&mut self) -> bool {
        matches!(self.strace.try_wait(), Ok(None))
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.strace.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.strace.wait();
    }
}
