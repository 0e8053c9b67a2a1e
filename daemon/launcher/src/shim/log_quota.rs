//! How much output a log takes under its limits, without the files. Pure.

use crate::ipc::wire::{LogLimits, WhenLogFull};

/// Bytes of output between two checks of the free disk space.
pub(super) const CHECK_INTERVAL_BYTES: u64 = 1024 * 1024;

/// The quota of one log.
pub(super) struct LogQuota {
    limits: LogLimits,
    /// Free bytes above `min_free_bytes` at the last check, less the bytes written since.
    spare_bytes: u64,
    /// Bytes of output since the last check; `None` when the next output needs a check.
    bytes_since_check: Option<u64>,
    /// Whether output was dropped.
    has_dropped: bool,
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

    /// Returns how many of `wanted` bytes of new output may be appended to the log, which has
    /// `log_bytes`. `free_bytes` checks the free disk space; where it cannot, no space is reserved.
    pub(super) fn grant(
        &mut self,
        wanted: u64,
        log_bytes: u64,
        free_bytes: impl FnOnce() -> Option<u64>,
    ) -> u64 {
        let mut granted = wanted;
        if self.ends_command() {
            granted = 0;
        }
        if self.limits.max_bytes > 0 {
            granted = granted.min(self.limits.max_bytes.saturating_sub(log_bytes));
        }
        if self.limits.min_free_bytes > 0 && granted > 0 {
            let since_check = self
                .bytes_since_check
                .filter(|bytes| *bytes < CHECK_INTERVAL_BYTES);
            if since_check.is_none() {
                self.spare_bytes = free_bytes().map_or(u64::MAX, |free| {
                    free.saturating_sub(self.limits.min_free_bytes)
                });
            }
            self.bytes_since_check = Some(since_check.unwrap_or(0) + wanted);
            granted = granted.min(self.spare_bytes);
        }
        granted
    }

    /// Notes how many of the wanted and granted bytes were written.
    pub(super) fn note_written(&mut self, wanted: u64, granted: u64, written: u64) {
        self.spare_bytes = self.spare_bytes.saturating_sub(written);
        if written < granted {
            self.bytes_since_check = None;
        }
        self.has_dropped |= written < wanted;
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

    /// Appends output: all that is granted is written. Returns how much that was.
    fn append(
        quota: &mut LogQuota,
        wanted: u64,
        log: &mut u64,
        free: impl FnOnce() -> Option<u64>,
    ) -> u64 {
        let granted = quota.grant(wanted, *log, free);
        quota.note_written(wanted, granted, granted);
        *log += granted;
        granted
    }

    #[test]
    fn without_limits_everything_is_granted_without_a_check() {
        let mut quota = LogQuota::new(UNLIMITED);
        assert_eq!(quota.grant(u64::MAX, 7, no_check), u64::MAX);
        quota.note_written(10, 10, 3);
        assert!(!quota.ends_command());
        assert_eq!(quota.grant(10, 3, no_check), 10);
    }

    #[test]
    fn the_longest_log_is_exact_to_the_byte() {
        for when_full in [WhenLogFull::Drain, WhenLogFull::Kill] {
            let limits = LogLimits {
                max_bytes: 10,
                when_full,
                ..UNLIMITED
            };
            let (mut quota, mut log) = (LogQuota::new(limits), 0);
            assert_eq!(append(&mut quota, 10, &mut log, no_check), 10);
            assert!(!quota.ends_command());
            assert_eq!(append(&mut quota, 1, &mut log, no_check), 0);
            assert_eq!(quota.ends_command(), when_full == WhenLogFull::Kill);

            let (mut quota, mut log) = (LogQuota::new(limits), 0);
            assert_eq!(append(&mut quota, 11, &mut log, no_check), 10);
            assert_eq!(quota.ends_command(), when_full == WhenLogFull::Kill);
        }
    }

    #[test]
    fn free_space_is_checked_at_the_start_and_once_per_interval() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        let (mut quota, mut log) = (LogQuota::new(limits), 0);
        assert_eq!(append(&mut quota, 60, &mut log, || Some(150)), 50);
        // Space freed since the last check does not count yet.
        assert_eq!(
            append(&mut quota, CHECK_INTERVAL_BYTES - 60, &mut log, no_check),
            0
        );
        let plenty = || Some(u64::MAX);
        assert_eq!(
            append(&mut quota, CHECK_INTERVAL_BYTES - 1, &mut log, plenty),
            CHECK_INTERVAL_BYTES - 1
        );
        assert_eq!(append(&mut quota, 1, &mut log, no_check), 1);
        assert_eq!(append(&mut quota, 9, &mut log, || Some(100)), 0);
    }

    #[test]
    fn a_failed_write_causes_a_check_at_the_next() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        let mut quota = LogQuota::new(limits);
        assert_eq!(quota.grant(5, 0, || Some(1000)), 5);
        quota.note_written(5, 5, 2);
        assert_eq!(quota.grant(5, 2, || Some(101)), 1);
    }

    #[test]
    fn where_free_space_is_unknown_everything_is_granted() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        assert_eq!(LogQuota::new(limits).grant(5, 0, || None), 5);
    }

    #[test]
    fn nothing_is_granted_after_the_command_is_to_be_ended() {
        let limits = LogLimits {
            when_full: WhenLogFull::Kill,
            ..UNLIMITED
        };
        let mut quota = LogQuota::new(limits);
        assert_eq!(quota.grant(5, 0, no_check), 5);
        quota.note_written(5, 5, 2);
        assert!(quota.ends_command());
        assert_eq!(quota.grant(5, 2, no_check), 0);
    }
}
