//! A running escherd, and proof that nothing of it stays behind.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Ctl, DEADLINE, Descendant, Home, wait};

/// How escherd ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// An escherd of its own, ready to serve.
///
/// Its end, by [`Daemon::stop`] or by being dropped, fails the test if a process is left.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) home: Arc<Home>,
    pub(crate) reaper: Child,
    /// The reaper ends everything once this is closed.
    pub(crate) reaper_stdin: Option<ChildStdin>,
    pub(crate) reaper_lines: Receiver<String>,
    pub(crate) pid: Pid,
    pub(crate) exit: Option<Exit>,
    pub(crate) stderr: PathBuf,
    pub(crate) notifications: Option<UnixDatagram>,
    pub(crate) is_checked: bool,
}

impl Daemon {
    /// Its directories.
    #[must_use]
    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// escherd's process. The number is its own until [`Daemon::wait_for_exit`] returns.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// escherctl for this escherd.
    #[must_use]
    pub fn ctl(&self) -> Ctl {
        Ctl::new(self.home.clone())
    }

    /// What escherd has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Every process that descends from this escherd, itself and orphans included.
    #[must_use]
    pub fn processes(&self) -> Vec<Descendant> {
        crate::descendants(Pid::from_raw(self.reaper.id().cast_signed()))
    }

    /// Waits for the next notification to systemd (sd_notify(3)), after
    /// [`DaemonBuilder::keep_notifications`](crate::DaemonBuilder::keep_notifications).
    #[must_use]
    pub fn next_notification(&self) -> String {
        let socket = self.notifications.as_ref().expect("they are kept");
        let mut buffer = [0; 4096];
        let length = wait::receive(socket, &mut buffer).expect("a notification in time");
        String::from_utf8(buffer[..length].to_vec()).expect("UTF-8")
    }

    /// Kills escherd, and nothing else, with SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if self.exit.is_none() {
            // It may have been killed by something else a moment ago.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        assert_eq!(self.wait_for_exit(), Exit::Signal(9));
    }

    /// Sends SIGTERM to escherd alone and waits for its end.
    pub fn terminate(&mut self) -> Exit {
        kill(self.pid, Signal::SIGTERM).expect("it runs");
        self.wait_for_exit()
    }

    /// Waits for the end of escherd.
    pub fn wait_for_exit(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            let line = self.next_line();
            self.note_exit(&line);
        }
    }

    /// The same for an end that need not come: `None` after `deadline`.
    pub fn wait_for_exit_within(&mut self, deadline: Duration) -> Option<Exit> {
        let end = Instant::now() + deadline;
        while self.exit.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.reaper_lines.recv_timeout(left).ok()?;
            self.note_exit(&line);
        }
        self.exit
    }

    /// Ends escherd and checks that nothing is left. Returns how it ended.
    pub fn stop(mut self) -> Exit {
        self.check_leftovers();
        self.exit.expect("the reaper has reported its end")
    }

    fn next_line(&self) -> String {
        match self.reaper_lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("escherd does not end:\n{}", self.log()),
            Err(RecvTimeoutError::Disconnected) => panic!("the reaper has ended"),
        }
    }

    fn note_exit(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["exited", "code", code] => self.exit = Some(Exit::Code(code.parse().unwrap())),
            ["exited", "signal", signal] => self.exit = Some(Exit::Signal(signal.parse().unwrap())),
            _ => {}
        }
    }

    fn check_leftovers(&mut self) {
        self.is_checked = true;
        self.reaper_stdin = None;
        let mut left = Vec::new();
        loop {
            let line = self.next_line();
            self.note_exit(&line);
            match line.as_str() {
                "clean" | "unclean" => break,
                line if line.starts_with("left ") => left.push(line.to_owned()),
                _ => {}
            }
        }
        self.reaper
            .wait()
            .expect("the reaper ends after its last line");
        let left = left.join("\n");
        assert!(
            left.is_empty(),
            "processes were left behind:\n{left}\nescherd's log:\n{}",
            self.log()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- escherd's log ---\n{}---", self.log());
            // The reaper cleans up as its standard input closes.
            self.reaper_stdin = None;
            let _ = self.reaper.wait();
        } else if !self.is_checked {
            self.check_leftovers();
        }
    }
}
