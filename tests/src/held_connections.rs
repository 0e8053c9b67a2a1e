//! Many connections at once, in a process of their own, so that their descriptors are in nobody's way.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::{DEADLINE, Daemon, RunningProgram, child_program};

/// Connections to an escherd that are open until [`HeldConnections::close`].
#[derive(Debug)]
pub struct HeldConnections(RunningProgram);

/// Opens `count` connections and sends these bytes over each.
#[must_use]
pub fn hold_connections(daemon: &Daemon, count: u64, bytes: &[u8]) -> HeldConnections {
    let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new(child_program());
    command
        .arg("hold-connections")
        .arg(daemon.home().socket())
        .args([count.to_string(), bytes])
        .stdin(Stdio::piped());
    let mut program = RunningProgram::spawn_unread(command, DEADLINE);
    let mut line = String::new();
    BufReader::new(program.stdout())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    HeldConnections(program)
}

impl HeldConnections {
    /// Closes them.
    pub fn close(mut self) {
        drop(self.0.stdin());
        let _ = self.0.wait().expect(0);
    }
}
