//! Scripts that run in a machine.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};

use escher_protocol::OutputStream;

use super::DEADLINE;
use super::agent_protocol::{Report, RunScript, receive, send};
use crate::FinishedProgram;

/// Sends scripts to the `host-agent` of a machine, and passes its reports to the tasks that they are about.
#[derive(Debug)]
pub(super) struct AgentClient {
    port: Mutex<UnixStream>,
    last_task: AtomicU32,
    receivers: Arc<Receivers>,
    ready: Receiver<Report>,
}

/// Where the reports about each task go; `None` when the machine has stopped.
type Receivers = Mutex<Option<HashMap<u32, Sender<Report>>>>;

/// Stands for the machine itself, where tasks begin at 1.
const MACHINE: u32 = 0;

impl AgentClient {
    pub(super) fn new(port: UnixStream) -> Self {
        let (sender, ready) = channel();
        let receivers = Arc::new(Mutex::new(Some(HashMap::from([(MACHINE, sender)]))));
        let incoming = port.try_clone().unwrap();
        std::thread::spawn({
            let receivers = receivers.clone();
            move || distribute(incoming, &receivers)
        });
        AgentClient {
            port: Mutex::new(port),
            last_task: AtomicU32::new(MACHINE),
            receivers,
            ready,
        }
    }

    /// Waits until the machine is up.
    pub(super) fn await_ready(&self) -> Result<(), RecvTimeoutError> {
        self.ready.recv_timeout(DEADLINE).map(drop)
    }

    pub(super) fn start(&self, user: &str, script: &str) -> Task {
        let task = self.last_task.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, reports) = channel();
        if let Some(receivers) = &mut *self.receivers.lock().unwrap() {
            receivers.insert(task, sender);
        }
        let request = RunScript {
            task,
            user: user.to_owned(),
            script: script.to_owned(),
        };
        // If the machine has stopped, the task finds out by its reports.
        let _ = send(&mut *self.port.lock().unwrap(), &request);
        Task {
            script: request.script,
            reports,
            stdout: Vec::new(),
            stderr: Vec::new(),
            read: 0,
            code: None,
        }
    }
}

/// Passes on reports until the machine stops.
fn distribute(mut port: UnixStream, receivers: &Receivers) {
    while let Ok(Some(report)) = receive::<Report>(&mut port) {
        let task = match &report {
            Report::Ready => MACHINE,
            Report::Output { task, .. } | Report::Ended { task, .. } => *task,
        };
        let receivers = receivers.lock().unwrap();
        if let Some(receiver) = receivers.as_ref().and_then(|all| all.get(&task)) {
            // A test that has dropped the task does not listen.
            let _ = receiver.send(report);
        }
    }
    *receivers.lock().unwrap() = None;
}

/// A shell script that was started in a machine.
#[derive(Debug)]
pub struct Task {
    script: String,
    reports: Receiver<Report>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How much of `stdout` was returned line by line.
    read: usize,
    code: Option<i32>,
}

impl Task {
    /// Waits for the next line on standard output.
    ///
    /// # Panics
    /// When the script ends or the deadline passes before.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            let rest = &self.stdout[self.read..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..length].to_vec()).expect("UTF-8");
                self.read += length + 1;
                return line;
            }
            assert!(self.code.is_none(), "no further line of {self}");
            assert!(self.receive(), "the machine has stopped, with {self}");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time, or the machine stops before.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> FinishedProgram {
        while self.code.is_none() {
            assert!(self.receive(), "the machine has stopped, with {self}");
        }
        FinishedProgram {
            code: self.code.unwrap(),
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }

    /// Waits until the machine has stopped. Returns what arrived of standard output until then.
    #[must_use]
    pub fn output_until_stop(mut self) -> String {
        while self.receive() {}
        String::from_utf8(self.stdout).expect("UTF-8")
    }

    /// Waits for the next report; false when the machine has stopped.
    #[track_caller]
    fn receive(&mut self) -> bool {
        match self.reports.recv_timeout(DEADLINE) {
            Ok(Report::Output { stream, data, .. }) => match stream {
                OutputStream::Stdout => self.stdout.extend_from_slice(&data),
                OutputStream::Stderr => self.stderr.extend_from_slice(&data),
            },
            Ok(Report::Ended { code, .. }) => self.code = Some(code),
            Ok(Report::Ready) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more comes of {self}"),
        }
        true
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Task { script, code, .. } = self;
        let stdout = String::from_utf8_lossy(&self.stdout);
        let stderr = String::from_utf8_lossy(&self.stderr);
        write!(
            f,
            "`{script}` (exit status: {code:?})\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}
