//! Exit records that shims have left.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use escher_launcher::ipc::exit_record::{self, ExitRecordError};
use escher_launcher::ipc::wire::ExitReport;
use escher_protocol::ExecutionId;
use tracing::error;

/// The exit records of a state directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExitRecords {
    /// Their reports.
    pub reports: Vec<ExitReport>,
    /// Executions with a record that only another version of escherd understands: how they ended is
    /// known, but not to this one.
    pub for_later_escherd: HashSet<ExecutionId>,
}

/// Reads all exit records in the state directory. A damaged record is logged and renamed, and its
/// execution alone is lost. A record of another version is logged and stays.
///
/// # Errors
/// If the directory cannot be read. A missing directory is empty.
pub fn read_exit_records(state_dir: &Path) -> io::Result<ExitRecords> {
    let mut records = ExitRecords::default();
    let directory = state_dir.join(exit_record::DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("exit")) {
            continue;
        }
        match exit_record::read(&path) {
            Ok(report) => records.reports.push(report),
            Err(problem @ ExitRecordError::Unreadable { .. }) => error!("{problem}"),
            Err(problem) if problem.is_of_another_version() => {
                error!("{problem}; it is left for an escherd that understands it");
                let name = path.file_name().and_then(OsStr::to_str);
                let parsed = name.and_then(exit_record::parse_file_name);
                let id = parsed.map(|(id, _attempt)| id);
                records.for_later_escherd.extend(id);
            }
            Err(problem) => {
                let quarantine = path.with_extension("exit.damaged");
                let renamed = fs::rename(&path, &quarantine);
                error!(set_aside = %quarantine.display(), ?renamed, "{problem}; it is set aside");
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::FIRST_ATTEMPT;
    use escher_protocol::{Exit, Part, Parts, Timestamp};

    fn report(byte: u8) -> ExitReport {
        let id = ExecutionId::from_bytes([byte; 16]);
        let at = Timestamp::from_micros(2);
        ExitReport::new(id, FIRST_ATTEMPT, Exit::Code(3), at)
    }

    #[test]
    fn a_truncated_record_does_not_affect_others() {
        let dir = tempfile::tempdir().unwrap();
        let exits = dir.path().join(exit_record::DIRECTORY);
        let none = read_exit_records(dir.path()).unwrap();
        assert_eq!(none, ExitRecords::default(), "no directory");
        fs::create_dir(&exits).unwrap();
        for byte in [1, 2] {
            exit_record::write(fs::File::open(&exits).unwrap(), &report(byte)).unwrap();
        }
        let path = exits.join(exit_record::file_name(report(1).id, FIRST_ATTEMPT));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read_exit_records(dir.path()).unwrap().reports, [report(2)]);
            assert!(!path.exists() && path.with_extension("exit.damaged").exists());
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(read_exit_records(dir.path()).unwrap().reports.len(), 2);
    }

    /// The execution of such a record stayed running for ever: the record was taken for one of
    /// another version.
    #[test]
    fn a_record_whose_version_has_a_flipped_bit_is_set_aside_so_that_its_execution_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let exits = dir.path().join(exit_record::DIRECTORY);
        fs::create_dir(&exits).unwrap();
        exit_record::write(fs::File::open(&exits).unwrap(), &report(1)).unwrap();
        let path = exits.join(exit_record::file_name(report(1).id, FIRST_ATTEMPT));
        let mut bytes = fs::read(&path).unwrap();
        bytes[7] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(
            read_exit_records(dir.path()).unwrap(),
            ExitRecords::default()
        );
        assert!(!path.exists() && path.with_extension("exit.damaged").exists());
    }

    #[test]
    fn records_of_another_version_stay_and_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let exits = dir.path().join(exit_record::DIRECTORY);
        fs::create_dir(&exits).unwrap();
        let with_part = |byte, tag| ExitReport {
            parts: Parts::try_from(vec![Part::new(tag, "later")]).unwrap(),
            ..report(byte)
        };
        for report in [with_part(1, 4_711), with_part(2, 4_710)] {
            exit_record::write(fs::File::open(&exits).unwrap(), &report).unwrap();
        }
        let records = read_exit_records(dir.path()).unwrap();
        assert_eq!(records.reports, [with_part(2, 4_710)]);
        assert_eq!(records.for_later_escherd, HashSet::from([report(1).id]));
        let name = exit_record::file_name(report(1).id, FIRST_ATTEMPT);
        assert!(exits.join(name).exists());
    }
}
