//! The numbers that may have been given, in a file beside the database: they are not given again when the database is
//! lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::quarantine::{FILE_MODE, with_suffix};

/// What the name of the file has after that of the database.
const SUFFIX: &str = "-numbers";

/// Numbers between the last one in the database and the mark, at least: those in the journal alone are below it.
pub(super) const LEAST_AHEAD: u64 = 2048;

/// How far ahead of the last number the mark is set. So it is written once for some thousand executions.
const STEP: u64 = 2 * LEAST_AHEAD;

/// A mark that no number that was given exceeds.
#[derive(Debug)]
pub(super) struct NumberMark {
    path: PathBuf,
    mark: u64,
    is_failing: bool,
}

impl NumberMark {
    /// Reads the mark of the database at `path`; 0 if there is none.
    pub(super) fn read(path: &Path) -> Self {
        let path = with_suffix(path, SUFFIX);
        let text = fs::read_to_string(&path).unwrap_or_default();
        NumberMark {
            mark: text.trim().parse().unwrap_or(0),
            path,
            is_failing: false,
        }
    }

    /// Returns the mark.
    pub(super) fn get(&self) -> u64 {
        self.mark
    }

    /// Raises the mark, if the last number of the database is too close to it. Where that fails, a later call tries it
    /// again.
    pub(super) fn keep_ahead_of(&mut self, last_number: u64) {
        if last_number.saturating_add(LEAST_AHEAD) <= self.mark {
            return;
        }
        let mark = last_number.saturating_add(STEP);
        match replace(&self.path, mark) {
            Ok(()) => (self.mark, self.is_failing) = (mark, false),
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                let path = self.path.display();
                tracing::warn!(
                    "{path} cannot be written: {error}. If the database is lost, numbers are given again"
                );
            }
            Err(_) => {}
        }
    }
}

/// Replaces the file: after a crash it has the old mark or the new one.
fn replace(path: &Path, mark: u64) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&new)?;
    writeln!(file, "{mark}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_ahead_and_survives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut mark = NumberMark::read(&path);
        assert_eq!(mark.get(), 0);
        mark.keep_ahead_of(0);
        assert_eq!(NumberMark::read(&path).get(), STEP);
        mark.keep_ahead_of(STEP - LEAST_AHEAD);
        assert_eq!(mark.get(), STEP, "far enough");
        mark.keep_ahead_of(STEP - LEAST_AHEAD + 1);
        assert_eq!(NumberMark::read(&path).get(), 2 * STEP - LEAST_AHEAD + 1);
    }

    #[test]
    fn a_file_that_makes_no_sense_counts_for_nothing_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        fs::write(with_suffix(&path, SUFFIX), b"\xff\x00").unwrap();
        let mut mark = NumberMark::read(&path);
        assert_eq!(mark.get(), 0);
        mark.keep_ahead_of(5);
        assert_eq!(NumberMark::read(&path).get(), STEP + 5);
    }
}
