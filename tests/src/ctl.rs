//! escherctl, run as a person or a script would.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use escher_client::ExecutionId;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{DEADLINE, Home, child_program, escherctl};

/// escherctl against one escherd.
#[derive(Debug, Clone)]
pub struct Ctl {
    home: Arc<Home>,
    user: Option<String>,
    deadline: Duration,
}

/// A program that has ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, or `-n` if it died of signal n.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs. Killed if the test forgets it.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    deadline: Duration,
}

impl Ctl {
    pub(crate) fn new(home: Arc<Home>) -> Self {
        Ctl {
            home,
            user: None,
            deadline: DEADLINE,
        }
    }

    /// As another user with these groups, who need not exist. For root only.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        self.user = Some(format!("{uid}:{gid}:{}", groups.join(",")));
        self
    }

    /// With more patience.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command, to be started in some other way. Its working directory is the home's work folder.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.user {
            None => Command::new(escherctl()),
            Some(user) => {
                let mut command = Command::new(child_program());
                command
                    .args(["as", user])
                    .arg(self.home.share(&escherctl()));
                command
            }
        };
        command
            .args(arguments)
            .env("ESCHER_SOCKET", self.home.socket())
            .current_dir(self.home.work());
        command
    }

    /// Starts it, with nothing to read.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Started {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        Started::new(command, self.deadline)
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.start(arguments).end()
    }

    /// Runs it, with `input` to read.
    pub fn feed<S: AsRef<OsStr>>(
        &self,
        input: impl AsRef<[u8]>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut started = Started::new(command, self.deadline);
        // It may have enough before the end.
        let _ = started.stdin().write_all(input.as_ref());
        started.end()
    }

    /// Runs it; it has to succeed and print one line, which is returned.
    pub fn line<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let ended = self.run(arguments).expect(0);
        let text = String::from_utf8(ended.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text:?} should be one line");
        lines[0].to_owned()
    }

    /// Submits a command.
    pub fn submit<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> ExecutionId {
        let submit = std::iter::once(OsString::from("submit"));
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        let line = self.line(submit.chain(arguments));
        line.parse().expect(&line)
    }

    /// Runs it; it has to succeed and print one JSON object. `--json` is put in front.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let mut objects = self.json_lines(arguments);
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }

    /// Runs it; it has to succeed and print JSON, one object per line. `--json` is put in front.
    pub fn json_lines<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Vec<Value> {
        let json = std::iter::once(OsString::from("--json"));
        let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
        self.run(json.chain(arguments)).expect(0).json_lines()
    }

    /// Everything known about an execution.
    pub fn inspect(&self, id: impl fmt::Display) -> Value {
        self.json(["inspect".to_owned(), id.to_string()])
    }
}

impl Ended {
    /// Fails unless it ended with this status.
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

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
            format!("{} bytes: {text:?}", bytes.len())
        };
        f.debug_struct("Ended")
            .field("code", &self.code)
            .field("stdout", &shown(&self.stdout))
            .field("stderr", &shown(&self.stderr))
            .finish()
    }
}

impl Started {
    /// Starts `command` and collects what it writes, unless its standard output was taken elsewhere.
    #[must_use]
    pub fn new(mut command: Command, deadline: Duration) -> Self {
        command.stdout(Stdio::piped());
        Started::with_stdout(command, deadline, true)
    }

    /// As [`Started::new`]; standard output is left for [`Started::stdout`].
    #[must_use]
    pub fn unread(mut command: Command, deadline: Duration) -> Self {
        command.stdout(Stdio::piped());
        Started::with_stdout(command, deadline, false)
    }

    /// As [`Started::new`]; standard output goes where `command` says.
    #[must_use]
    pub fn redirected(command: Command, deadline: Duration) -> Self {
        Started::with_stdout(command, deadline, false)
    }

    fn with_stdout(mut command: Command, deadline: Duration, collect: bool) -> Self {
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = if collect {
            child.stdout.take().map(drain)
        } else {
            None
        };
        let stderr = child.stderr.take().map(drain);
        Started {
            child,
            stdout,
            stderr,
            deadline,
        }
    }

    /// Its standard input, if that is a pipe: closed when the value goes.
    #[must_use]
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe, not taken before")
    }

    /// Its standard output, of [`Started::unread`].
    #[must_use]
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("a pipe, not taken before")
    }

    /// Signals it. It was not reaped, so the number is its own.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it was not reaped");
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for its end; kills it and fails after the deadline.
    #[track_caller]
    #[must_use]
    pub fn end(mut self) -> Ended {
        let is_over = wait_for_end(self.pid(), self.deadline);
        if !is_over {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap();
        let collect = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader
                .map(|reader| reader.join().unwrap())
                .unwrap_or_default()
        };
        let ended = Ended {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: collect(self.stdout.take()),
            stderr: collect(self.stderr.take()),
        };
        assert!(
            is_over,
            "killed, for it did not end within {:?}: {ended:?}",
            self.deadline
        );
        ended
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // After `end` this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs any program to its end.
#[track_caller]
#[must_use]
pub fn finish(command: Command) -> Ended {
    Started::new(command, DEADLINE).end()
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Waits for the end of a child, without reaping it.
fn wait_for_end(pid: Pid, deadline: Duration) -> bool {
    let (sender, over) = channel();
    std::thread::spawn(move || {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
        let _ = sender.send(());
    });
    over.recv_timeout(deadline).is_ok()
}
