//! What of a log and its index is forgotten to make space for new output, without the files. Pure.

use std::collections::VecDeque;

/// Into how many parts the limit of a log is divided; the oldest part is forgotten at a time.
const STEPS_PER_LIMIT: u64 = 8;

/// The places of a log up to which it can be forgotten.
///
/// While the log grows, a [`Cut`] is noted after each eighth of the limit. So no search is needed
/// when space is, and no more than these few places are kept.
pub(super) struct Forgetting {
    step_bytes: u64,
    block_bytes: u64,
    cuts: VecDeque<Cut>,
    /// Bytes of log and index at the last cut.
    bytes_at_last_cut: u64,
    forgotten: Forgotten,
}

/// A place at which log and index can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// An offset of the log.
    log: u64,
    /// Where the index has the record that names the stream of the bytes from there on.
    index: u64,
}

/// What is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// The log before this offset.
    pub(super) up_to: u64,
    /// Where the hole at the beginning of the log ends: whole blocks of the file system.
    pub(super) log_hole_end: u64,
    /// Where the hole in the index begins: its first block has the header.
    pub(super) index_hole_start: u64,
    /// Where it ends.
    pub(super) index_hole_end: u64,
}

impl Forgotten {
    /// Returns the bytes of both files that take no space.
    pub(super) fn hole_bytes(&self) -> u64 {
        let index_hole = self.index_hole_end.saturating_sub(self.index_hole_start);
        self.log_hole_end + index_hole
    }
}

impl Forgetting {
    /// Creates the places of an empty log with the limit `max_bytes`. Holes consist of blocks of
    /// `block_bytes`.
    pub(super) fn new(max_bytes: u64, block_bytes: u64) -> Self {
        Forgetting {
            step_bytes: (max_bytes / STEPS_PER_LIMIT).max(1),
            block_bytes: block_bytes.max(1),
            cuts: VecDeque::new(),
            bytes_at_last_cut: 0,
            forgotten: Forgotten::default(),
        }
    }

    /// Changes the limit. Of the places noted so far those stay that are an eighth of it apart.
    pub(super) fn set_max_bytes(&mut self, max_bytes: u64) {
        let step = (max_bytes / STEPS_PER_LIMIT).max(1);
        let mut last = None;
        self.cuts.retain(|cut| {
            let is_far = last.is_none_or(|last| cut.log + cut.index >= last + step);
            if is_far {
                last = Some(cut.log + cut.index);
            }
            is_far
        });
        self.step_bytes = step;
    }

    /// Returns how many bytes are forgotten at a time. Output is appended in pieces of at most this
    /// length.
    pub(super) fn step_bytes(&self) -> u64 {
        self.step_bytes
    }

    /// Returns what is forgotten.
    pub(super) fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    /// Notes that a piece of output is about to be appended to a log of `log` bytes, and that the
    /// index of `index` bytes names its stream at `index_place`.
    pub(super) fn note_piece(&mut self, log: u64, index: u64, index_place: u64) {
        if log + index >= self.bytes_at_last_cut + self.step_bytes {
            self.bytes_at_last_cut = log + index;
            self.cuts.push_back(Cut {
                log,
                index: index_place,
            });
        }
    }

    /// Returns what has to be forgotten so that `needed` bytes become free, and at least a step; less
    /// is returned if there is no more. `None` if nothing can become free. Call
    /// [`Forgetting::forget`] once that is done.
    pub(super) fn choose(&self, needed: u64) -> Option<Forgotten> {
        let before = self.forgotten.hole_bytes();
        let wanted = before.saturating_add(needed.max(self.step_bytes));
        let mut chosen = None;
        for cut in &self.cuts {
            let forgotten = self.at(*cut);
            if forgotten.hole_bytes() > before {
                chosen = Some(forgotten);
            }
            if forgotten.hole_bytes() >= wanted {
                break;
            }
        }
        chosen
    }

    /// Notes that this was forgotten.
    pub(super) fn forget(&mut self, forgotten: Forgotten) {
        self.cuts.retain(|cut| cut.log > forgotten.up_to);
        self.forgotten = forgotten;
    }

    fn at(&self, cut: Cut) -> Forgotten {
        let whole_blocks = |bytes: u64| bytes - bytes % self.block_bytes;
        Forgotten {
            up_to: cut.log,
            log_hole_end: whole_blocks(cut.log),
            index_hole_start: self.block_bytes,
            index_hole_end: whole_blocks(cut.index).max(self.block_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 4096;

    /// Appends pieces, one record each, to a log with a limit. Returns the most bytes that log and
    /// index have had on disk, and how far it was forgotten.
    fn append_all(max_bytes: u64, pieces: impl IntoIterator<Item = u64>) -> (u64, Forgotten) {
        let mut forgetting = Forgetting::new(max_bytes, BLOCK);
        let (mut log, mut index, mut most) = (0, 32, 0);
        for piece in pieces {
            let used = log + index - forgetting.forgotten().hole_bytes();
            let excess = (used + piece + 16).saturating_sub(max_bytes);
            if excess > 0
                && let Some(forgotten) = forgetting.choose(excess)
            {
                assert!(forgotten.up_to > forgetting.forgotten().up_to);
                assert!(forgotten.up_to <= log && forgotten.index_hole_end <= index.max(BLOCK));
                forgetting.forget(forgotten);
            }
            forgetting.note_piece(log, index, index);
            log += piece;
            index += 16;
            most = most.max(log + index - forgetting.forgotten().hole_bytes());
            assert!(forgetting.cuts.len() as u64 <= 2 * STEPS_PER_LIMIT);
        }
        (most, forgetting.forgotten())
    }

    #[test]
    fn nothing_is_forgotten_within_the_limit() {
        let (most, forgotten) = append_all(1 << 20, vec![1000; 1000]);
        assert_eq!(forgotten, Forgotten::default());
        assert_eq!(most, 32 + 1016 * 1000);
    }

    #[test]
    fn at_the_limit_an_eighth_is_forgotten() {
        let limit = 1 << 20;
        let pieces = vec![1000; 1040];
        let (most, forgotten) = append_all(limit, pieces);
        assert!(most <= limit && most > limit - 2000, "{most}");
        let step = limit / STEPS_PER_LIMIT;
        let hole = forgotten.hole_bytes();
        assert!((step..2 * step).contains(&hole), "{forgotten:?}");
    }

    #[test]
    fn the_index_alone_can_fill_the_limit() {
        let limit = 64 * 1024;
        let (most, forgotten) = append_all(limit, vec![1; 100_000]);
        assert!(most <= limit, "{most}");
        assert!(forgotten.up_to > 90_000, "{forgotten:?}");
    }

    proptest! {
        #[test]
        fn the_limit_is_never_exceeded_and_little_more_than_needed_is_forgotten(
            pieces in prop::collection::vec(1u64..8192, 0..2000)
        ) {
            let limit = 64 * 1024;
            let total: u64 = pieces.iter().sum();
            let (most, forgotten) = append_all(limit, pieces);
            prop_assert!(most <= limit);
            let rest = total - forgotten.up_to;
            prop_assert!(forgotten.up_to == 0 || rest > limit / 4, "only {} bytes are left", rest);
        }
    }
}
