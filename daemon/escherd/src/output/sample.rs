//! Logs for tests.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use escher_launcher::ipc::log_index::{Record, encode_header};
use escher_protocol::{OutputStream, Timestamp};

/// A log in a folder of its own.
pub(super) struct SampleLog {
    dir: tempfile::TempDir,
}

impl SampleLog {
    /// A log made of these pieces, one record each.
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
