//! Exit records that shims have left.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use escher_launcher::ipc::exit_record::{self, ExitRecord, ExitRecordError};
use tracing::error;

/// Reads all exit records in the state directory. One that is damaged is set aside under another name and
/// said; its execution is lost then, and no other.
///
/// # Errors
/// When the directory cannot be read. One that is not there is empty.
pub fn exit_records(state_dir: &Path) -> io::Result<Vec<ExitRecord>> {
    let directory = state_dir.join(exit_record::DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("exit")) {
            continue;
        }
        match exit_record::read(&path) {
            Ok(record) => records.push(record),
            Err(problem @ ExitRecordError::Unreadable { .. }) => error!("{problem}"),
            Err(problem) => {
                let aside = path.with_extension("exit.damaged");
                let renamed = fs::rename(&path, &aside);
                error!(aside = %aside.display(), ?renamed, "{problem}; it is set aside");
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_launcher::ipc::wire::{EndCause, ExitReport};
    use escher_protocol::{ExecutionId, Exit, Leftovers, OutputTotals, Timestamp, Usage};

    #[test]
    fn a_record_that_is_cut_anywhere_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let exits = dir.path().join(exit_record::DIRECTORY);
        assert!(exit_records(dir.path()).unwrap().is_empty(), "no directory");
        fs::create_dir(&exits).unwrap();
        let record = |byte| ExitRecord {
            measured: None,
            report: ExitReport {
                id: ExecutionId::from_bytes([byte; 16]),
                exit: Exit::Code(3),
                cause: EndCause::Itself,
                ended_by_signal: None,
                started_at: None,
                ended_at: Timestamp::from_micros(2),
                duration_us: 1,
                usage: Usage::default(),
                output: OutputTotals::default(),
                leftovers: Leftovers::None,
            },
        };
        for byte in [1, 2] {
            exit_record::write(fs::File::open(&exits).unwrap(), &record(byte)).unwrap();
        }
        let path = exits.join(exit_record::file_name(record(1).report.id));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(exit_records(dir.path()).unwrap(), [record(2)]);
            assert!(!path.exists() && path.with_extension("exit.damaged").exists());
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(exit_records(dir.path()).unwrap().len(), 2);
    }
}
