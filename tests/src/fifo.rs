//! Named pipes, by which commands and tests wait for each other.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::{DEADLINE, Home};

/// A named pipe, open at this end from the start, so that neither side blocks in open(2).
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    file: File,
}

impl Fifo {
    /// A new one of this name in the home's work folder; every user may use it.
    #[must_use]
    pub fn new(home: &Home, name: &str) -> Self {
        let path = home.work().join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("a fifo");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        // Linux opens a fifo for both directions at once (fifo(7)).
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        Fifo { path, file }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as text, for a shell.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Writes a line: whoever does `read` in a shell goes on.
    pub fn say(&self, line: &str) {
        (&self.file)
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// Waits for a line.
    #[must_use]
    pub fn hear(&self) -> String {
        let until = Instant::now() + DEADLINE;
        let mut line = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut one = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut one, left) {
                Ok(0) => panic!("nothing came through {} in time", self.path.display()),
                Err(nix::errno::Errno::EINTR) => continue,
                other => drop(other.unwrap()),
            }
            let mut byte = [0];
            (&self.file).read_exact(&mut byte).unwrap();
            match byte[0] {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    }
}
