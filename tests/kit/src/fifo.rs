//! Named pipes, by which commands and tests wait for each other.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;

use crate::wait::readable;

/// A named pipe, open at this end from the start, so that neither side blocks in open(2).
///
/// What was written and not read is lost when the last copy is dropped and no process has the pipe open.
#[derive(Debug, Clone)]
pub struct Fifo {
    path: PathBuf,
    file: Arc<File>,
}

impl Fifo {
    /// Creates a named pipe that every user may use.
    #[must_use]
    pub fn create(path: PathBuf) -> Self {
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo");
        // Whatever the umask.
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        // Linux opens a fifo for both directions at once (fifo(7)).
        let mut both = OpenOptions::new();
        let file = both.read(true).write(true).open(&path).unwrap();
        Fifo {
            path,
            file: Arc::new(file),
        }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its path as text, for a shell.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Writes a line, for a shell's `read` at the other end.
    pub fn write_line(&self, line: &str) {
        let line = format!("{line}\n");
        (&*self.file).write_all(line.as_bytes()).unwrap();
    }

    /// Waits for a line, and returns it without its newline.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`](crate::DEADLINE).
    #[must_use]
    pub fn read_line(&self) -> String {
        let mut line = Vec::new();
        loop {
            let is_readable = readable(&*self.file);
            assert!(is_readable, "no line from {} in time", self.path.display());
            let mut byte = [0];
            (&*self.file).read_exact(&mut byte).unwrap();
            match byte[0] {
                b'\n' => return String::from_utf8(line).expect("UTF-8"),
                byte => line.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = Fifo::create(directory.path().join("fifo"));
        fifo.write_line("one");
        fifo.write_line("");
        fifo.write_line("three");
        let lines = [fifo.read_line(), fifo.read_line(), fifo.read_line()];
        assert_eq!(lines, ["one", "", "three"]);
    }
}
