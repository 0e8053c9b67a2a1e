//! How much a log may take: its limits, without the files. Pure.

use crate::ipc::wire::{LogLimits, WhenLogFull};

/// Free space is looked at once for so many bytes of output, in bytes.
pub(super) const LOOK_EVERY: u64 = 1024 * 1024;

/// What one log may still take.
pub(super) struct Room {
    limits: LogLimits,
    /// Bytes that were free beyond those that must stay so, at the last look, less what was written since.
    spare: u64,
    /// Bytes that have come since the last look; `None` when the next ones need a look.
    since_look: Option<u64>,
    /// Whether a byte was not taken.
    overflowed: bool,
}

impl Room {
    pub(super) fn new(limits: LogLimits) -> Self {
        Room {
            limits,
            spare: 0,
            since_look: None,
            overflowed: false,
        }
    }

    /// How many of `wanted` bytes, which have just come, go into the log, which has `log_bytes`. `free` looks
    /// how many bytes are free; where it cannot, writing is left to tell.
    pub(super) fn grant(
        &mut self,
        wanted: u64,
        log_bytes: u64,
        free: impl FnOnce() -> Option<u64>,
    ) -> u64 {
        let mut granted = wanted;
        if self.ends_command() {
            granted = 0;
        }
        if self.limits.max_bytes > 0 {
            granted = granted.min(self.limits.max_bytes.saturating_sub(log_bytes));
        }
        if self.limits.min_free_bytes > 0 && granted > 0 {
            let since_look = self.since_look.filter(|since| *since < LOOK_EVERY);
            if since_look.is_none() {
                self.spare = free().map_or(u64::MAX, |free| {
                    free.saturating_sub(self.limits.min_free_bytes)
                });
            }
            self.since_look = Some(since_look.unwrap_or(0) + wanted);
            granted = granted.min(self.spare);
        }
        granted
    }

    /// So many of the bytes wanted and granted have gone into the log.
    pub(super) fn took(&mut self, wanted: u64, granted: u64, written: u64) {
        self.spare = self.spare.saturating_sub(written);
        if written < granted {
            self.since_look = None;
        }
        self.overflowed |= written < wanted;
    }

    /// Whether the command is to be ended because its log has not taken everything. From then on the log
    /// takes nothing, so that what it has is a head of the output without holes.
    pub(super) fn ends_command(&self) -> bool {
        self.overflowed && self.limits.when_full == WhenLogFull::Kill
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

    fn no_look() -> Option<u64> {
        panic!("nobody is to look")
    }

    /// Bytes come, and all that is granted is written.
    fn come(
        room: &mut Room,
        wanted: u64,
        log: &mut u64,
        free: impl FnOnce() -> Option<u64>,
    ) -> u64 {
        let granted = room.grant(wanted, *log, free);
        room.took(wanted, granted, granted);
        *log += granted;
        granted
    }

    #[test]
    fn without_limits_everything_fits_and_nobody_looks() {
        let mut room = Room::new(UNLIMITED);
        assert_eq!(room.grant(u64::MAX, 7, no_look), u64::MAX);
        room.took(10, 10, 3);
        assert!(!room.ends_command());
        assert_eq!(room.grant(10, 3, no_look), 10);
    }

    #[test]
    fn the_longest_log_is_exact() {
        for when_full in [WhenLogFull::Drain, WhenLogFull::Kill] {
            let limits = LogLimits {
                max_bytes: 10,
                when_full,
                ..UNLIMITED
            };
            let (mut room, mut log) = (Room::new(limits), 0);
            assert_eq!(come(&mut room, 10, &mut log, no_look), 10);
            assert!(!room.ends_command());
            assert_eq!(come(&mut room, 1, &mut log, no_look), 0);
            assert_eq!(room.ends_command(), when_full == WhenLogFull::Kill);

            let (mut room, mut log) = (Room::new(limits), 0);
            assert_eq!(come(&mut room, 11, &mut log, no_look), 10);
            assert_eq!(room.ends_command(), when_full == WhenLogFull::Kill);
        }
    }

    #[test]
    fn free_space_is_looked_at_first_and_then_once_for_so_much_output() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        let (mut room, mut log) = (Room::new(limits), 0);
        assert_eq!(come(&mut room, 60, &mut log, || Some(150)), 50);
        // What has become free is not seen yet.
        assert_eq!(come(&mut room, LOOK_EVERY - 60, &mut log, no_look), 0);
        let plenty = || Some(u64::MAX);
        assert_eq!(
            come(&mut room, LOOK_EVERY - 1, &mut log, plenty),
            LOOK_EVERY - 1
        );
        assert_eq!(come(&mut room, 1, &mut log, no_look), 1);
        assert_eq!(come(&mut room, 9, &mut log, || Some(100)), 0);
    }

    #[test]
    fn a_write_that_fails_brings_a_look_at_the_next() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        let mut room = Room::new(limits);
        assert_eq!(room.grant(5, 0, || Some(1000)), 5);
        room.took(5, 5, 2);
        assert_eq!(room.grant(5, 2, || Some(101)), 1);
    }

    #[test]
    fn where_nobody_can_look_writing_tells() {
        let limits = LogLimits {
            min_free_bytes: 100,
            ..UNLIMITED
        };
        assert_eq!(Room::new(limits).grant(5, 0, || None), 5);
    }

    #[test]
    fn after_the_first_byte_that_ended_a_command_none_is_taken() {
        let limits = LogLimits {
            when_full: WhenLogFull::Kill,
            ..UNLIMITED
        };
        let mut room = Room::new(limits);
        assert_eq!(room.grant(5, 0, no_look), 5);
        room.took(5, 5, 2);
        assert!(room.ends_command());
        assert_eq!(room.grant(5, 2, no_look), 0);
    }
}
