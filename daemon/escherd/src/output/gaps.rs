//! Missing output, as the records of an index tell of it. Pure.

use escher_protocol::{GapReason, OutputGap};

/// Output that was dropped, as far as the records of it have been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drops {
    pub(super) offset: u64,
    /// Bytes that had been dropped before.
    before: u64,
    /// Bytes that had been dropped at the last record.
    last: u64,
    /// Whether the last record ended the gap.
    is_closed: bool,
}

impl Drops {
    /// Continues `drops` with the next record, which is at `offset`.
    pub(super) fn add(drops: &mut Option<Drops>, offset: u64, dropped: u64) {
        match drops {
            Some(drops) if drops.offset == offset => {
                drops.last = dropped;
                drops.is_closed = !drops.is_closed;
            }
            _ => {
                *drops = Some(Drops {
                    offset,
                    before: dropped,
                    last: dropped,
                    is_closed: false,
                });
            }
        }
    }

    /// Returns the gap. `total` counts the bytes that had been dropped when it ended, if that is
    /// known from elsewhere.
    pub(super) fn into_gap(self, total: Option<u64>) -> Option<OutputGap> {
        let last = total.or(self.is_closed.then_some(self.last));
        let bytes = last.map(|last| last.saturating_sub(self.before));
        (bytes != Some(0)).then_some(OutputGap {
            offset: self.offset,
            bytes,
            reason: GapReason::Dropped,
        })
    }
}

/// Returns the gap of `bytes` dropped bytes at `offset`, if that is any.
pub(super) fn dropped_gap(offset: u64, bytes: u64) -> Option<OutputGap> {
    (bytes > 0).then_some(OutputGap {
        offset,
        bytes: Some(bytes),
        reason: GapReason::Dropped,
    })
}

/// Gaps, of which at most this many are kept apart.
pub(super) struct GapList {
    pub(super) gaps: Vec<OutputGap>,
    pub(super) most: usize,
}

impl GapList {
    pub(super) fn push(&mut self, gap: Option<OutputGap>) {
        let Some(gap) = gap else { return };
        let is_full = self.gaps.len() >= self.most;
        match self.gaps.last_mut().filter(|_| is_full) {
            None => self.gaps.push(gap),
            Some(last) => {
                let sum = last.bytes.zip(gap.bytes);
                last.bytes = sum.map(|(bytes, more)| bytes.saturating_add(more));
            }
        }
    }
}
