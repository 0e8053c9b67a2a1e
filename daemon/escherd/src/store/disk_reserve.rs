//! Space on the disk of the store that is kept free of new submissions, so that what is accepted
//! already can be recorded to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;

use crate::host::free_space::free_bytes;

/// The reserve. Asking for the free space is one system call, which takes about a microsecond, and a
/// transaction takes many more; so nothing is remembered from one to the next.
#[derive(Debug)]
pub(super) struct DiskReserve {
    /// The directory of the store.
    directory: PathBuf,
    /// Its size, shared with those who change it. 0: there is none.
    bytes: Arc<AtomicU64>,
    /// Whether the free space was less when it was asked for last.
    was_short: bool,
}

impl DiskReserve {
    /// Creates the reserve of `bytes` on the disk of `directory`.
    pub(super) fn new(directory: PathBuf, bytes: Arc<AtomicU64>) -> Self {
        DiskReserve {
            directory,
            bytes,
            was_short: false,
        }
    }

    /// Returns why nothing may be submitted now; `None` if something may. Logs a change of that.
    pub(super) fn refusal(&mut self) -> Option<String> {
        let refusal = self.shortage().map(|(free, reserve)| {
            format!(
                "the disk of {} has {free} bytes free, less than store.min_free_bytes, {reserve}",
                self.directory.display()
            )
        });
        let is_short = refusal.is_some();
        if std::mem::replace(&mut self.was_short, is_short) != is_short {
            match &refusal {
                Some(reason) => tracing::error!("{reason}. New executions are refused"),
                None => tracing::info!(
                    "the disk of {} has space again: new executions are accepted",
                    self.directory.display()
                ),
            }
        }
        refusal
    }

    /// Returns whether nothing may be submitted now.
    pub(super) fn is_short(&self) -> bool {
        self.shortage().is_some()
    }

    /// Returns how many bytes are free and how many should be, if they are fewer.
    fn shortage(&self) -> Option<(u64, u64)> {
        let reserve = self.bytes.load(Ordering::Relaxed);
        // Without an answer there is no reason to refuse: the write itself shows what can be written.
        let free = match reserve {
            0 => None,
            _ => statvfs(&self.directory).ok().map(|stat| free_bytes(&stat)),
        };
        free.filter(|free| *free < reserve)
            .map(|free| (free, reserve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_what_is_set_now() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let mut reserve = DiskReserve::new(directory.path().to_owned(), Arc::clone(&bytes));
        assert_eq!(reserve.refusal(), None, "none");
        bytes.store(1, Ordering::Relaxed);
        assert_eq!(reserve.refusal(), None, "a byte is free");
        bytes.store(u64::MAX, Ordering::Relaxed);
        let refusal = reserve.refusal().unwrap();
        assert!(refusal.ends_with("18446744073709551615"), "{refusal}");
        bytes.store(0, Ordering::Relaxed);
        assert_eq!(reserve.refusal(), None);
    }

    #[test]
    fn a_disk_that_does_not_answer_has_no_reserve() {
        let bytes = Arc::new(AtomicU64::new(u64::MAX));
        assert_eq!(DiskReserve::new("/nowhere".into(), bytes).refusal(), None);
    }
}
