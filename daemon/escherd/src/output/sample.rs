//! Logs for tests.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use escher_launcher::ipc::log_index::{Record, encode_header};
use escher_protocol::{OutputStream, StreamSelection, Timestamp};
use tokio::sync::Semaphore;

use super::{OutputReader, ReaderResources};
use crate::blocking::BlockingPool;

/// Returns a reader of the log at `path`, with a thread of its own.
pub(super) fn reader(path: PathBuf, streams: StreamSelection) -> OutputReader {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let resources = ReaderResources {
        threads: BlockingPool::new(1),
        uid: 0,
        open_log: Arc::new(permit),
    };
    OutputReader::new(path, streams, resources)
}

/// A log in a temporary directory.
pub(super) struct SampleLog {
    dir: tempfile::TempDir,
}

impl SampleLog {
    /// Creates a log of `pieces`, with one record for each.
    pub(super) fn new<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = (OutputStream, P)>) -> Self {
        let sample = SampleLog {
            dir: tempfile::tempdir().unwrap(),
        };
        let (mut log, mut index) = (Vec::new(), Vec::new());
        index.extend(encode_header(Timestamp::from_micros(0)));
        for (time_us, (stream, bytes)) in (0..).zip(pieces) {
            let offset = log.len() as u64;
            index.extend(Record::output(offset, stream, time_us).encode());
            log.extend_from_slice(bytes.as_ref());
        }
        let write = |path, bytes: &[u8]| File::create(path).unwrap().write_all(bytes).unwrap();
        write(sample.log(), &log);
        write(sample.index(), &index);
        sample
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("x.log")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.path().join("x.idx")
    }
}
