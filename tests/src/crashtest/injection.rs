//! Killing a process inside a system call, from outside: strace(1) can send a signal when a process enters the
//! n-th call of a kind. The programs know nothing of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;

use crate::{DEADLINE, watch};

/// An strace that waits for its moment. Detaches when dropped.
#[derive(Debug)]
pub(super) struct Injection {
    strace: Child,
    /// The file of what it says.
    words: PathBuf,
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
    /// Kills `pid` in the `count`-th of `calls` from now on. `None` if it was gone before strace could look
    /// at it.
    pub(super) fn kill_in(
        pid: Pid,
        reach: Reach,
        calls: &str,
        count: u64,
        folder: &Path,
    ) -> Option<Self> {
        let words = folder.join("strace");
        let _ = std::fs::remove_file(&words);
        let strace = Command::new("strace")
            .args((reach == Reach::AllThreads).then_some("-f"))
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:signal=SIGKILL:when={count}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&words).unwrap())
            .spawn()
            .expect("strace is installed");
        let mut injection = Injection { strace, words };
        let attached = watch::until(folder, DEADLINE, || {
            let said = injection.said();
            if said.contains(" attached") {
                return Some(true);
            }
            (said.contains("attach:") || !injection.is_there()).then_some(false)
        });
        attached.then_some(injection)
    }

    /// Waits until the process has ended, but not longer than `patience`: it may have no reason for such calls.
    pub(super) fn wait(&self, patience: Duration) {
        let folder = self.words.parent().expect("it lies in a folder");
        watch::within(folder, patience, || {
            self.said().contains("+++ killed by").then_some(())
        });
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.words).unwrap_or_default()
    }

    fn is_there(&mut self) -> bool {
        matches!(self.strace.try_wait(), Ok(None))
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            Pid::from_raw(self.strace.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.strace.wait();
    }
}
