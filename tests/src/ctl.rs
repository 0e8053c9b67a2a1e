//! escherctl, run as a person or a script would.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use escher_client::ExecutionId;
use serde_json::Value;

use crate::{DEADLINE, FinishedProgram, Home, RunningProgram, child_program, escherctl};

/// escherctl against one escherd.
#[derive(Debug, Clone)]
pub struct Ctl {
    home: Arc<Home>,
    user: Option<String>,
    deadline: Duration,
}

impl Ctl {
    /// escherctl against an escherd that is in this home, or may come.
    #[must_use]
    pub fn new(home: Arc<Home>) -> Self {
        Ctl {
            home,
            user: None,
            deadline: DEADLINE,
        }
    }

    /// Runs it as another user, who need not exist, with these groups. For root only.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        self.user = Some(format!("{uid}:{gid}:{}", groups.join(",")));
        self
    }

    /// Sets another deadline than [`DEADLINE`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command, to be started in some other way. Its working directory is the home's work directory.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.user {
            None => Command::new(escherctl()),
            Some(user) => {
                let mut command = Command::new(child_program());
                command
                    .args(["run-as", user])
                    .arg(self.home.share(&escherctl()));
                command
            }
        };
        command
            .args(arguments)
            .env("ESCHER_SOCKET", self.home.socket())
            .env_remove("ESCHER_RECONNECT")
            .current_dir(self.home.work());
        command
    }

    /// Starts it, with nothing to read.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> RunningProgram {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        RunningProgram::spawn(command, self.deadline)
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> FinishedProgram {
        self.start(arguments).wait()
    }

    /// Runs it to its end, with `input` to read.
    pub fn run_with_input<S: AsRef<OsStr>>(
        &self,
        input: impl AsRef<[u8]>,
        arguments: impl IntoIterator<Item = S>,
    ) -> FinishedProgram {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut program = RunningProgram::spawn(command, self.deadline);
        // It may exit before it has read everything.
        let _ = program.stdin().write_all(input.as_ref());
        program.wait()
    }

    /// Runs it. It has to succeed and print one line, which is returned.
    pub fn line<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let ended = self.run(arguments).expect(0);
        let lines: Vec<&str> = ended.out().lines().collect();
        assert_eq!(lines.len(), 1, "{ended:?} should be one line");
        lines[0].to_owned()
    }

    /// Submits a command.
    pub fn submit<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> ExecutionId {
        let line = self.line(preceded_by("submit", arguments));
        line.parse().expect(&line)
    }

    /// Waits for the end of an execution; fails unless `wait` exits with this status.
    #[track_caller]
    pub fn wait(&self, target: impl fmt::Display, code: i32) {
        let _ = self
            .run(["wait".to_owned(), target.to_string()])
            .expect(code);
    }

    /// Runs it with `--json`. It has to succeed and print one object.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let mut objects = self.json_lines(arguments);
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }

    /// Runs it with `--json`. It has to succeed and print objects, one per line.
    pub fn json_lines<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Vec<Value> {
        self.run(preceded_by("--json", arguments))
            .expect(0)
            .json_lines()
    }

    /// Everything known about an execution.
    pub fn inspect(&self, target: impl fmt::Display) -> Value {
        self.json(["inspect".to_owned(), target.to_string()])
    }
}

fn preceded_by<S: AsRef<OsStr>>(
    first: &str,
    arguments: impl IntoIterator<Item = S>,
) -> impl Iterator<Item = OsString> {
    let arguments = arguments.into_iter().map(|word| word.as_ref().to_owned());
    std::iter::once(OsString::from(first)).chain(arguments)
}
