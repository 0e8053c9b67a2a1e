//! How much output a log takes under its limits, without the files. Pure.

use crate::ipc::log_index::RECORD_BYTES;
use crate::ipc::wire::{LogLimits, WhenLogFull};

/// Bytes for log and index between two checks of the free disk space.
pub(super) const CHECK_INTERVAL_BYTES: u64 = 1024 * 1024;

/// Bytes that are never granted: with them the index can say, where the log ends, that output is
/// missing.
const RESERVED_BYTES: u64 = RECORD_BYTES as u64;

/// The quota of one log and its index.
pub(super) struct LogQuota {
    limits: LogLimits,
    /// Free bytes above `min_free_bytes` at the last check, less the bytes written since.
    spare_bytes: u64,
    /// Bytes that were wanted since the last check; `None` when the next output needs a check.
    bytes_since_check: Option<u64>,
    /// Whether output was dropped.
    has_dropped: bool,
}

/// What is to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Bytes of output.
    pub(super) output: u64,
    /// Bytes of the index without which no output can be appended.
    pub(super) index: u64,
    /// Bytes of the index for times alone. They are granted if there is space for all output, too.
    pub(super) times: u64,
}

impl Wanted {
    fn total(self) -> u64 {
        self.output
            .saturating_add(self.index)
            .saturating_add(self.times)
    }
}

/// How much of it may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    /// Bytes of output. If there are none, nothing may be appended.
    pub(super) output: u64,
    /// Whether the records for times may be appended.
    pub(super) times: bool,
}

impl LogQuota {
    pub(super) fn new(limits: LogLimits) -> Self {
        LogQuota {
            limits,
            spare_bytes: 0,
            bytes_since_check: None,
            has_dropped: false,
        }
    }

    /// Changes [`LogLimits::max_bytes`].
    pub(super) fn set_max_bytes(&mut self, max_bytes: u64) {
        self.limits.max_bytes = max_bytes;
    }

    /// Returns how much of what is `wanted` may be appended, if log and index have `used` bytes on
    /// disk. `free_bytes` checks the free disk space; where it cannot, no space is reserved.
    pub(super) fn grant(
        &mut self,
        wanted: Wanted,
        used: u64,
        free_bytes: impl FnOnce() -> Option<u64>,
    ) -> Granted {
        let mut available = u64::MAX;
        if self.ends_command() {
            available = 0;
        }
        if self.limits.max_bytes > 0 {
            let left = self.limits.max_bytes.saturating_sub(used);
            available = available.min(left.saturating_sub(RESERVED_BYTES));
        }
        if self.limits.min_free_bytes > 0 && available > wanted.index {
            let since_check = self
                .bytes_since_check
                .filter(|bytes| *bytes < CHECK_INTERVAL_BYTES);
            if since_check.is_none() {
                self.spare_bytes = free_bytes().map_or(u64::MAX, |free| {
                    free.saturating_sub(self.limits.min_free_bytes)
                });
            }
            let since_check = since_check.unwrap_or(0).saturating_add(wanted.total());
            self.bytes_since_check = Some(since_check);
            available = available.min(self.spare_bytes.saturating_sub(RESERVED_BYTES));
        }
        if wanted.total() <= available {
            return Granted {
                output: wanted.output,
                times: true,
            };
        }
        Granted {
            output: wanted.output.min(available.saturating_sub(wanted.index)),
            times: false,
        }
    }

    /// Returns by how many bytes log and index, which have `used`, would exceed their limit with
    /// all that is `wanted`.
    pub(super) fn excess(&self, wanted: Wanted, used: u64) -> u64 {
        let needed = used
            .saturating_add(wanted.total())
            .saturating_add(RESERVED_BYTES);
        match self.limits.max_bytes {
            0 => 0,
            most => needed.saturating_sub(most),
        }
    }

    /// Notes how many of the wanted and granted bytes of output were written.
    pub(super) fn note_output(&mut self, wanted: u64, granted: u64, written: u64) {
        self.note_written(written);
        if written < granted {
            self.bytes_since_check = None;
        }
        self.has_dropped |= written < wanted;
    }

    /// Notes that bytes of log or index were written.
    pub(super) fn note_written(&mut self, bytes: u64) {
        self.spare_bytes = self.spare_bytes.saturating_sub(bytes);
    }

    /// Notes that bytes of log and index were deleted.
    pub(super) fn note_deleted(&mut self, bytes: u64) {
        self.spare_bytes = self.spare_bytes.saturating_add(bytes);
    }

    /// Whether the command is to be ended because output was dropped. From then on nothing is
    /// granted, so that the log is a prefix of the output, without gaps.
    pub(super) fn ends_command(&self) -> bool {
        self.has_dropped && self.limits.when_full == WhenLogFull::Kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLIMITED: LogLimits = LogLimits {
        max_bytes: 0,
        min_free_bytes: 0,
        when_full: WhenLogFull::Drain,
    };

    fn no_check() -> Option<u64> {
        panic!("the free space is checked")
    }

    fn output(bytes: u64) -> Wanted {
        Wanted {
            output: bytes,
            index: 0,
            times: 0,
        }
    }

    /// Appends output: all that is granted is written. Returns how much that was.
    fn append(
        quota: &mut LogQuota,
        wanted: Wanted,
        used: &mut u64,
        free: impl FnOnce() -> Option<u64>,
    ) -> Granted {
        let granted = quota.grant(wanted, *used, free);
        if granted.output > 0 {
            let index = wanted.index + if granted.times { wanted.times } else { 0 };
            quota.note_written(index);
            *used += index + granted.output;
        }
        quota.note_output(wanted.output, granted.output, granted.output);
        granted
    }

    #[test]
    fn without_limits_everything_is_granted_without_a_check() {
        let mut quota = LogQuota::new(UNLIMITED);
        assert_eq!(quota.grant(output(u64::MAX), 7, no_check).output, u64::MAX);
        quota.note_output(10, 10, 3);
        assert!(!quota.ends_command());
        assert_eq!(quota.grant(output(10), 3, no_check).output, 10);
        assert_eq!(quota.excess(output(u64::MAX), u64::MAX), 0);
    }

    #[test]
    fn the_longest_log_is_exact_to_the_byte() {
        for when_full in [WhenLogFull::Drain, WhenLogFull::Kill] {
            let limits = LogLimits {
                max_bytes: 10 + RESERVED_BYTES,
                when_full,
                ..UNLIMITED
            };
            let (mut quota, mut used) = (LogQuota::new(limits), 0);
            assert_eq!(
                append(&mut quota, output(10), &mut used, no_check).output,
                10
            );
            assert!(!quota.ends_command());
            assert_eq!(append(&mut quota, output(1), &mut used, no_check).output, 0);
            assert_eq!(quota.ends_command(), when_full == WhenLogFull::Kill);

            let (mut quota, mut used) = (LogQuota::new(limits), 0);
            assert_eq!(
                append(&mut quota, output(11), &mut used, no_check).output,
                10
            );
            assert_eq!(quota.ends_command(), when_full == WhenLogFull::Kill);
        }
    }

    #[test]
    fn the_index_counts_and_times_give_way_to_output() {
        let limits = LogLimits {
            max_bytes: 100 + RESERVED_BYTES,
            ..UNLIMITED
        };
        let wanted = |output, index, times| Wanted {
            output,
            index,
            times,
        };
        for (wanted, granted, times) in [
            (wanted(50, 34, 16), 50, true),
            (wanted(50, 35, 16), 50, false),
            (wanted(50, 50, 0), 50, true),
            (wanted(50, 51, 0), 49, false),
            (wanted(50, 99, 16), 1, false),
            (wanted(50, 100, 0), 0, false),
            (wanted(50, 101, 0), 0, false),
        ] {
            let (mut quota, mut used) = (LogQuota::new(limits), 0);
            let expected = Granted {
                output: granted,
                times,
            };
            assert_eq!(quota.excess(wanted, 0), wanted.total().saturating_sub(100));
            assert_eq!(append(&mut quota, wanted, &mut used, no_check), expected);
            assert!(used <= 100);
        }
    }

    #[test]
    fn free_space_is_checked_at_the_start_and_once_per_interval() {
        let limits = LogLimits {
            min_free_bytes: 100 - RESERVED_BYTES,
            ..UNLIMITED
        };
        let (mut quota, mut used) = (LogQuota::new(limits), 0);
        let mut append = |wanted, free: fn() -> Option<u64>| {
            append(&mut quota, output(wanted), &mut used, free).output
        };
        assert_eq!(append(60, || Some(150)), 50);
        // Space freed since the last check does not count yet.
        assert_eq!(append(CHECK_INTERVAL_BYTES - 60, no_check), 0);
        let plenty = || Some(u64::MAX);
        assert_eq!(
            append(CHECK_INTERVAL_BYTES - 1, plenty),
            CHECK_INTERVAL_BYTES - 1
        );
        assert_eq!(append(1, no_check), 1);
        assert_eq!(append(9, || Some(100)), 0);
    }

    #[test]
    fn the_index_counts_between_two_checks_of_the_free_space() {
        let limits = LogLimits {
            min_free_bytes: 1,
            ..UNLIMITED
        };
        let mut quota = LogQuota::new(limits);
        let wanted = Wanted {
            output: 1,
            index: 16,
            times: 0,
        };
        let mut checks = 0;
        for _ in 0..CHECK_INTERVAL_BYTES {
            let free = || {
                checks += 1;
                Some(u64::MAX)
            };
            assert_eq!(quota.grant(wanted, 0, free).output, 1);
            quota.note_written(16);
            quota.note_output(1, 1, 1);
        }
        assert_eq!(checks, 17);
    }

    #[test]
    fn a_failed_write_causes_a_check_at_the_next() {
        let limits = LogLimits {
            min_free_bytes: 100 - RESERVED_BYTES,
            ..UNLIMITED
        };
        let mut quota = LogQuota::new(limits);
        assert_eq!(quota.grant(output(5), 0, || Some(1000)).output, 5);
        quota.note_output(5, 5, 2);
        assert_eq!(quota.grant(output(5), 2, || Some(101)).output, 1);
    }

    #[test]
    fn where_free_space_is_unknown_everything_is_granted() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        assert_eq!(LogQuota::new(limits).grant(output(5), 0, || None).output, 5);
    }

    #[test]
    fn nothing_is_granted_after_the_command_is_to_be_ended() {
        let limits = LogLimits {
            when_full: WhenLogFull::Kill,
            ..UNLIMITED
        };
        let mut quota = LogQuota::new(limits);
        assert_eq!(quota.grant(output(5), 0, no_check).output, 5);
        quota.note_output(5, 5, 2);
        assert!(quota.ends_command());
        assert_eq!(quota.grant(output(5), 2, no_check).output, 0);
    }
}
