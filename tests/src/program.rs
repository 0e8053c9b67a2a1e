//! Programs that a test starts and waits for.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{DEADLINE, wait};

/// A program that has exited.
#[derive(Clone, PartialEq, Eq)]
pub struct FinishedProgram {
    /// Its exit status, or `-n` if signal n killed it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs. Killed if it is dropped before its end.
#[derive(Debug)]
pub struct RunningProgram {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    deadline: Duration,
}

/// The standard output of a running program. Reading fails with [`ErrorKind::TimedOut`] when nothing comes
/// within [`DEADLINE`].
#[derive(Debug)]
pub struct ProgramOutput(ChildStdout);

impl Read for ProgramOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !wait::readable(&self.0) {
            return Err(ErrorKind::TimedOut.into());
        }
        self.0.read(buffer)
    }
}

impl From<ProgramOutput> for Stdio {
    fn from(output: ProgramOutput) -> Self {
        output.0.into()
    }
}

impl FinishedProgram {
    /// Fails unless it exited with this status.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "unexpected exit status: {self:?}");
        self
    }

    /// What it wrote to standard output, which has to be UTF-8.
    #[must_use]
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    /// What it wrote to standard error, which has to be UTF-8.
    #[must_use]
    pub fn err(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("UTF-8")
    }

    /// Standard output as JSON, one object per line.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out().lines().map(parse).collect()
    }
}

impl fmt::Debug for FinishedProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
            format!("{} bytes: {text:?}", bytes.len())
        };
        f.debug_struct("FinishedProgram")
            .field("code", &self.code)
            .field("stdout", &shown(&self.stdout))
            .field("stderr", &shown(&self.stderr))
            .finish()
    }
}

impl RunningProgram {
    /// Starts `command` and collects what it writes.
    #[must_use]
    pub fn spawn(mut command: Command, deadline: Duration) -> Self {
        command.stdout(Stdio::piped());
        let mut program = RunningProgram::spawn_redirected(command, deadline);
        program.stdout = program.child.stdout.take().map(read_in_thread);
        program
    }

    /// Starts `command`. The caller reads its standard output from [`RunningProgram::stdout`].
    #[must_use]
    pub fn spawn_unread(mut command: Command, deadline: Duration) -> Self {
        command.stdout(Stdio::piped());
        RunningProgram::spawn_redirected(command, deadline)
    }

    /// Starts `command`, whose standard output goes where `command` says.
    #[must_use]
    pub fn spawn_redirected(mut command: Command, deadline: Duration) -> Self {
        command.stderr(Stdio::piped());
        RunningProgram::spawn_unpiped(command, deadline)
    }

    /// Starts `command`, whose outputs go where `command` says.
    #[must_use]
    pub fn spawn_unpiped(mut command: Command, deadline: Duration) -> Self {
        let spawned = command.spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().map(read_in_thread);
        RunningProgram {
            child,
            stdout: None,
            stderr,
            deadline,
        }
    }

    /// Takes its standard input, which has to be a pipe. Dropping it closes the pipe.
    #[must_use]
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe, not taken before")
    }

    /// Takes its standard output, after [`RunningProgram::spawn_unread`].
    #[must_use]
    pub fn stdout(&mut self) -> ProgramOutput {
        ProgramOutput(self.child.stdout.take().expect("a pipe, not taken before"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // Only `wait` reaps it, so the number is still its own.
        kill(self.pid(), signal).expect("it was not reaped");
    }

    /// Waits until a signal has stopped it.
    ///
    /// # Panics
    /// When it has ended.
    pub fn wait_until_stopped(&self) {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let status = loop {
            match waitid(Id::Pid(self.pid()), flags) {
                Err(Errno::EINTR) => {}
                status => break status.expect("it was not reaped"),
            }
        };
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its exit. Kills it and fails after the deadline.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> FinishedProgram {
        let has_exited = wait_for_exit(self.pid(), self.deadline);
        if !has_exited {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap();
        let collected = |reader: Option<JoinHandle<Vec<u8>>>| match reader {
            Some(reader) => reader.join().unwrap(),
            None => Vec::new(),
        };
        let finished = FinishedProgram {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: collected(self.stdout.take()),
            stderr: collected(self.stderr.take()),
        };
        assert!(
            has_exited,
            "killed, since it did not exit within {:?}: {finished:?}",
            self.deadline
        );
        finished
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        // After `wait` this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs any program to its end.
#[track_caller]
#[must_use]
pub fn run_program(command: Command) -> FinishedProgram {
    RunningProgram::spawn(command, DEADLINE).wait()
}

fn read_in_thread(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Waits for the exit of a child, without reaping it.
fn wait_for_exit(pid: Pid, deadline: Duration) -> bool {
    let (sender, exited) = channel();
    std::thread::spawn(move || {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
        let _ = sender.send(());
    });
    exited.recv_timeout(deadline).is_ok()
}
