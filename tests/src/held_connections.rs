//! Many connections at once, in a process of their own, so that their descriptors are in nobody's way.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use crate::{DEADLINE, Daemon, ProgramOutput, RunningProgram, child_program};

/// Connections to an escherd that are open until [`HeldConnections::close`].
#[derive(Debug)]
pub struct HeldConnections {
    program: RunningProgram,
    stdin: ChildStdin,
    stdout: BufReader<ProgramOutput>,
}

/// Opens `count` connections and sends these bytes over each.
#[must_use]
pub fn hold_connections(daemon: &Daemon, count: u64, bytes: &[u8]) -> HeldConnections {
    HeldConnections::open(daemon, None, &daemon.home().socket(), count, bytes)
}

impl HeldConnections {
    /// Opens `count` connections to `socket` and sends these bytes over each; as the user `uid`, for
    /// which the test needs root, or as the user of the test.
    #[must_use]
    pub fn open(
        daemon: &Daemon,
        uid: Option<u32>,
        socket: &Path,
        count: u64,
        bytes: &[u8],
    ) -> Self {
        let mut command = Command::new(child_program());
        if let Some(uid) = uid {
            let program = daemon.home().share(&child_program());
            command
                .args(["run-as", &format!("{uid}:{uid}:")])
                .arg(program);
        }
        command
            .arg("hold-connections")
            .arg(socket)
            .args([count.to_string(), hexadecimal(bytes)])
            .stdin(Stdio::piped());
        let mut program = RunningProgram::spawn_unread(command, DEADLINE);
        let mut held = HeldConnections {
            stdin: program.stdin(),
            stdout: BufReader::new(program.stdout()),
            program,
        };
        held.expect_line("ready\n");
        held
    }

    /// Sends more bytes over each of them.
    pub fn send(&mut self, bytes: &[u8]) {
        writeln!(self.stdin, "{}", hexadecimal(bytes)).unwrap();
        self.expect_line("sent\n");
    }

    /// Closes them.
    pub fn close(self) {
        drop(self.stdin);
        let _ = self.program.wait().expect(0);
    }

    fn expect_line(&mut self, expected: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
