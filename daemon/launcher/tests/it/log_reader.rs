//! Reads log and index by `docs/formats.md` alone: nothing here is the launcher's own code.

use std::fs;

use escher_protocol::ExecutionId;

use crate::Launcher;

/// The output of a command, as it is on disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Microseconds since 1970.
    pub(crate) start_us: i64,
    pub(crate) log: Vec<u8>,
    pub(crate) index_bytes: u64,
    /// Without what was forgotten.
    pub(crate) pieces: Vec<Piece>,
    /// Where output was dropped, and how many bytes had been by then.
    pub(crate) missing: Vec<(u64, u64)>,
    /// The log before this offset was forgotten.
    pub(crate) forgotten: u64,
}

/// Consecutive bytes of one stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) stderr: bool,
    pub(crate) time_us: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Output {
    pub(crate) fn of(launcher: &Launcher, id: ExecutionId) -> Self {
        let log = fs::read(launcher.log(id)).unwrap();
        Self::parse(log, &fs::read(launcher.index(id)).unwrap())
    }

    pub(crate) fn parse(log: Vec<u8>, index: &[u8]) -> Self {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        assert_eq!(&index[..8], b"escher\0\x0a");
        let forgotten = number(&index[16..24]);
        assert_eq!(!forgotten, number(&index[24..32]));
        let all: Vec<(u64, u64)> = index[32..]
            .chunks_exact(16)
            .map(|record| (number(&record[..8]), number(&record[8..])))
            .collect();
        let offset = |record: &(u64, u64)| usize::try_from(record.1 & !(0xff << 56)).unwrap();
        let start = usize::try_from(forgotten).unwrap();
        let kind = |record: &&(u64, u64)| record.1 >> 56;
        let missing = all.iter().filter(|record| kind(record) == 4);
        let missing: Vec<(u64, u64)> = missing
            .map(|record| (offset(record) as u64, record.0))
            .collect();
        let records: Vec<_> = all.iter().filter(|record| kind(record) != 4).collect();
        let ends = records
            .iter()
            .skip(1)
            .map(|record| offset(record))
            .chain([log.len()]);
        let pieces = records.iter().zip(ends).map(|(record, end)| Piece {
            stderr: match record.1 >> 56 {
                0 => false,
                1 => true,
                kind => panic!("a record of kind {kind}"),
            },
            time_us: record.0,
            bytes: log[offset(record).max(start).min(end)..end].to_vec(),
        });
        Output {
            start_us: number(&index[8..16]).cast_signed(),
            pieces: pieces.collect(),
            index_bytes: index.len() as u64,
            missing,
            forgotten,
            log,
        }
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.stream(false)
    }

    pub(crate) fn stderr(&self) -> Vec<u8> {
        self.stream(true)
    }

    /// The whole log as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.log.clone()).unwrap()
    }

    fn stream(&self, stderr: bool) -> Vec<u8> {
        let pieces = self.pieces.iter().filter(|piece| piece.stderr == stderr);
        pieces.flat_map(|piece| &piece.bytes).copied().collect()
    }
}
