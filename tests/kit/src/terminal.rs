//! A pseudo-terminal (pty(7)) for programs that behave differently on a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;

use crate::wait;

/// A terminal that a test reads from.
#[derive(Debug)]
pub struct Terminal {
    controller: File,
    device: OwnedFd,
}

impl Terminal {
    /// Makes a terminal.
    ///
    /// # Panics
    /// When there can be none.
    #[must_use]
    pub fn open() -> Self {
        let pair = openpty(None, None).expect("a pseudo-terminal");
        for descriptor in [&pair.master, &pair.slave] {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("fcntl(2)");
        }
        Terminal {
            controller: File::from(pair.master),
            device: pair.slave,
        }
    }

    /// Returns the terminal for one of a program's standard streams.
    ///
    /// # Panics
    /// When there are too many open files.
    #[must_use]
    pub fn stdio(&self) -> Stdio {
        self.device.try_clone().expect("a descriptor").into()
    }

    /// Reads until a line with this text has arrived. Returns everything that has been read.
    ///
    /// # Panics
    /// When it does not arrive in time.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        loop {
            if let Some(place) = read.find(text)
                && read[place..].contains('\n')
            {
                return read;
            }
            assert!(
                wait::readable(&self.controller),
                "{text:?} is not in {read:?}"
            );
            let mut buffer = [0; 4096];
            let length = self.controller.read(&mut buffer).expect("a terminal");
            read.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// Returns what programs have written since, once none of them has the terminal any more.
    ///
    /// # Panics
    /// When one keeps it.
    #[must_use]
    pub fn read_to_end(self) -> String {
        let Terminal {
            mut controller,
            device,
        } = self;
        drop(device);
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            assert!(wait::readable(&controller), "the terminal is still in use");
            match controller.read(&mut buffer) {
                Ok(length) if length > 0 => read.extend_from_slice(&buffer[..length]),
                // EIO, which Linux reports once the last program has closed it.
                Ok(_) | Err(_) => return String::from_utf8_lossy(&read).into_owned(),
            }
        }
    }
}
