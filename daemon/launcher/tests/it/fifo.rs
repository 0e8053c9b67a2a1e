//! Named pipes, by which commands and tests wait for each other.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use crate::wait::readable;

/// A named pipe, open at this end from the start, so that neither side blocks in open(2).
pub(crate) struct Fifo {
    path: PathBuf,
    file: File,
}

impl Fifo {
    pub(crate) fn new(path: PathBuf) -> Self {
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        // Linux opens a fifo for both directions at once (fifo(7)).
        let mut both = OpenOptions::new();
        let file = both.read(true).write(true).open(&path).unwrap();
        Fifo { path, file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line: whoever does `read` in a shell goes on.
    pub(crate) fn say(&self, line: &str) {
        writeln!(&self.file, "{line}").unwrap();
    }

    /// Waits for a line.
    pub(crate) fn hear(&self) -> String {
        let mut line = Vec::new();
        loop {
            assert!(readable(&self.file), "nothing came through {:?}", self.path);
            let mut byte = [0];
            (&self.file).read_exact(&mut byte).unwrap();
            match byte[0] {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    }
}
