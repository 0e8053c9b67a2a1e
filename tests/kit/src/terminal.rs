//! A terminal, as programs see one (pty(7)).

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{Termios, tcgetattr};

use crate::wait;

/// The side of a terminal at which its user sits.
#[derive(Debug)]
pub struct Terminal {
    master: PtyMaster,
    slave: OwnedFd,
    shown: String,
}

impl Terminal {
    /// Opens one.
    #[must_use]
    pub fn open() -> Self {
        // No program that another test starts may hold the master.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("a terminal");
        grantpt(&master).expect("its own");
        unlockpt(&master).expect("its own");
        let name = ptsname_r(&master).expect("it has a name");
        let mut slave = OpenOptions::new();
        let slave = slave.read(true).write(true);
        let slave: File = slave
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(name)
            .expect("its other side");
        Terminal {
            master,
            slave: slave.into(),
            shown: String::new(),
        }
    }

    /// Its other side, for a program. It is not the program's controlling terminal, unless that makes it so (setsid(1)).
    #[must_use]
    pub fn for_program(&self) -> Stdio {
        self.slave.try_clone().expect("a descriptor").into()
    }

    /// Types a line, as its user does.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.master, "{line}").expect("the slave is open");
    }

    /// Sets its size, as when its window is resized. The kernel tells the programs whose controlling terminal it is.
    ///
    /// # Panics
    /// When stty(1) cannot.
    pub fn set_size(&self, columns: u16, rows: u16) {
        let arguments = ["cols", &columns.to_string(), "rows", &rows.to_string()];
        let mut stty = Command::new("stty");
        let set = stty.args(arguments).stdin(self.for_program()).status();
        assert!(set.expect("stty").success());
    }

    /// Presses keys: sends what they send.
    ///
    /// # Panics
    /// When nobody reads so many keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("it is there");
    }

    /// Returns how it treats input and output (termios(3)): a program may have changed that.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.slave).expect("it is there")
    }

    /// Waits until it shows `text`, behind what was waited for before. Returns what comes before that.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`](crate::DEADLINE).
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some((before, rest)) = self.shown.split_once(text) {
                let (before, rest) = (before.to_owned(), rest.to_owned());
                self.shown = rest;
                return before;
            }
            let shown = &self.shown;
            assert!(wait::readable(&self.master), "no {text:?} but {shown:?}");
            let mut buffer = [0; 4096];
            let length = self.master.read(&mut buffer).expect("the slave is open");
            self.shown
                .push_str(std::str::from_utf8(&buffer[..length]).expect("UTF-8"));
        }
    }

    /// Returns what it has shown since, once no program has it any more.
    ///
    /// # Panics
    /// When one keeps it.
    #[must_use]
    pub fn read_to_end(self) -> String {
        let Terminal {
            mut master,
            slave,
            mut shown,
        } = self;
        drop(slave);
        let mut buffer = [0; 4096];
        loop {
            assert!(wait::readable(&master), "the terminal is still in use");
            match master.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
                // EIO, which Linux reports once the last program has closed it.
                Ok(_) | Err(_) => return shown,
            }
        }
    }

    /// Closes it, as when its window is closed. Programs get EIO from then on.
    pub fn hang_up(self) {
        drop(self.master);
    }
}
