//! Exit records: files that shims leave behind, and a power cut may have torn.
#![no_main]

use std::fs::File;
use std::sync::LazyLock;

use escher_fuzz::{MemoryDir, rewrite};
use escher_launcher::ipc::exit_record::{self, MAGIC};
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<MemoryDir> = LazyLock::new(MemoryDir::create);

/// The checksum of a report, which no chance would find.
fn checksum(report: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&MAGIC);
    hasher.update(report);
    hasher.finalize().to_le_bytes()
}

fuzz_target!(|input: &[u8]| {
    let Some((has_frame, bytes)) = input.split_first() else {
        return;
    };
    let path = DIR.path("record");
    if has_frame % 4 == 0 {
        rewrite(&path, &[bytes]);
    } else {
        rewrite(&path, &[&MAGIC, &checksum(bytes), bytes]);
    }
    if let Ok(report) = exit_record::read(&path) {
        let dir = File::open(DIR.path(".")).expect("it is there");
        exit_record::write(&dir, &report).expect("it can be written");
        let written = DIR.path(&exit_record::file_name(report.id, report.attempt));
        let again = exit_record::read(&written).expect("what was written can be read");
        assert_eq!(report, again);
        std::fs::remove_file(written).expect("it is there");
    }
});
