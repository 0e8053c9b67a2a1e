//! Something that a machine was told to do.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};

use escher_protocol::OutputStream;

use super::DEADLINE;
use super::orders::{News, Order, receive, send};
use crate::Ended;

/// Gives orders to the `hand` of a machine, and hands its news to the tasks that they are of.
#[derive(Debug)]
pub(super) struct Orders {
    port: Mutex<UnixStream>,
    last: AtomicU32,
    listeners: Arc<Listeners>,
    ready: Receiver<News>,
}

/// Where the news of each task goes. Emptied when the machine is gone.
type Listeners = Mutex<Option<HashMap<u32, Sender<News>>>>;

/// The number of no task.
const NONE: u32 = 0;

impl Orders {
    pub(super) fn new(port: UnixStream) -> Self {
        let (sender, ready) = channel();
        let listeners = Arc::new(Mutex::new(Some(HashMap::from([(NONE, sender)]))));
        let source = port.try_clone().unwrap();
        std::thread::spawn({
            let listeners = listeners.clone();
            move || spread(source, &listeners)
        });
        Orders {
            port: Mutex::new(port),
            last: AtomicU32::new(NONE),
            listeners,
            ready,
        }
    }

    /// Waits until the machine is up.
    pub(super) fn await_ready(&self) -> Result<(), RecvTimeoutError> {
        self.ready.recv_timeout(DEADLINE).map(drop)
    }

    pub(super) fn give(&self, user: &str, script: &str) -> Task {
        let task = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, news) = channel();
        if let Some(listeners) = &mut *self.listeners.lock().unwrap() {
            listeners.insert(task, sender);
        }
        let order = Order {
            task,
            user: user.to_owned(),
            script: script.to_owned(),
        };
        // A machine that is gone shows in the news.
        let _ = send(&mut *self.port.lock().unwrap(), &order);
        Task {
            script: order.script,
            news,
            stdout: Vec::new(),
            stderr: Vec::new(),
            read: 0,
            code: None,
        }
    }
}

/// Hands out news until the machine is gone.
fn spread(mut port: UnixStream, listeners: &Listeners) {
    while let Ok(Some(news)) = receive::<News>(&mut port) {
        let task = match &news {
            News::Ready => NONE,
            News::Output { task, .. } | News::Ended { task, .. } => *task,
        };
        let listeners = listeners.lock().unwrap();
        if let Some(listener) = listeners.as_ref().and_then(|all| all.get(&task)) {
            // One who has forgotten the task does not listen.
            let _ = listener.send(news);
        }
    }
    *listeners.lock().unwrap() = None;
}

/// A shell in a machine that was started and goes on.
#[derive(Debug)]
pub struct Task {
    script: String,
    news: Receiver<News>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How much of `stdout` was taken, line by line.
    read: usize,
    code: Option<i32>,
}

impl Task {
    /// Waits for the next line on standard output.
    ///
    /// # Panics
    /// When there is none, in the end or in time.
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
            assert!(self.hear(), "the machine is gone, with {self}");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time, or the machine is gone before.
    #[track_caller]
    #[must_use]
    pub fn end(mut self) -> Ended {
        while self.code.is_none() {
            assert!(self.hear(), "the machine is gone, with {self}");
        }
        Ended {
            code: self.code.unwrap(),
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }

    /// What it has written to standard output and got out before its machine was cut from power.
    #[must_use]
    pub fn told(mut self) -> String {
        while self.hear() {}
        String::from_utf8(self.stdout).expect("UTF-8")
    }

    /// Waits for more of it; false when the machine is gone.
    #[track_caller]
    fn hear(&mut self) -> bool {
        match self.news.recv_timeout(DEADLINE) {
            Ok(News::Output { stream, data, .. }) => match stream {
                OutputStream::Stdout => self.stdout.extend_from_slice(&data),
                OutputStream::Stderr => self.stderr.extend_from_slice(&data),
            },
            Ok(News::Ended { code, .. }) => self.code = Some(code),
            Ok(News::Ready) => {}
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
