//! Whether the host was started anew since the last escherd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel's name for this run of the host (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The run of the host that escherd's state is of.
#[derive(Debug)]
pub struct Boot {
    path: PathBuf,
    now: String,
    before: Option<String>,
}

impl Boot {
    /// Reads what the last escherd noted in `state_dir`.
    ///
    /// # Errors
    /// When the kernel does not tell, or the note cannot be read.
    pub fn read(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("boot-id");
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Boot {
            path,
            now: fs::read_to_string(BOOT_ID)?,
            before,
        })
    }

    /// Whether this is another run of the host than the last escherd's.
    #[must_use]
    pub fn is_another(&self) -> bool {
        self.before
            .as_ref()
            .is_some_and(|before| *before != self.now)
    }

    /// Whether this run is noted: all that followed from its being another one is on disk.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.before.as_ref() == Some(&self.now)
    }

    /// Notes this run. Only once everything that follows from another one is on disk: whoever reads the
    /// note takes that for done.
    ///
    /// # Errors
    /// Those of the file system; the old note is then still there.
    pub fn note(&self) -> io::Result<()> {
        if self.is_noted() {
            return Ok(());
        }
        let draft = self.path.with_extension("new");
        fs::write(&draft, &self.now)?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_of_the_host_is_noticed_until_it_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let first = Boot::read(dir.path()).unwrap();
        assert!(!first.is_another(), "nothing is known of an earlier one");
        first.note().unwrap();
        assert!(!Boot::read(dir.path()).unwrap().is_another());
        fs::write(dir.path().join("boot-id"), "another\n").unwrap();
        let later = Boot::read(dir.path()).unwrap();
        assert!(later.is_another() && Boot::read(dir.path()).unwrap().is_another());
        later.note().unwrap();
        assert!(!Boot::read(dir.path()).unwrap().is_another());
    }
}
