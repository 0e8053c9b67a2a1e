//! What an execution uses of CPU, memory and disk, from two readings of its counters.

use std::time::Duration;

use escher_client::CurrentUsage;

/// The counters of an execution, as they were after it had run for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) usage: CurrentUsage,
    /// How long it had run.
    pub(super) running_time: Duration,
}

/// What is shown of an execution. `None`: nothing counts it, or nobody has answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// CPU time, in tenths of a percent of one CPU.
    pub(super) cpu_permille: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) tasks: Option<u64>,
    /// Bytes that were read from block devices, each second.
    pub(super) read_per_second: Option<u64>,
    /// Bytes that were written to block devices, each second.
    pub(super) written_per_second: Option<u64>,
}

impl Figures {
    /// Returns the figures of the time between two readings. Without an earlier one: of all the time that the execution
    /// has run, as ps(1) and the first screen of top(1) do.
    pub(super) fn new(earlier: Option<&Reading>, later: &Reading) -> Self {
        let (since, from) = match earlier {
            Some(earlier) => (earlier.running_time, earlier.usage),
            None => (Duration::ZERO, CurrentUsage::default()),
        };
        let micros = later.running_time.saturating_sub(since).as_micros();
        // A counter that there was not before began at 0.
        let rate = |count: fn(&CurrentUsage) -> Option<u64>, units: u128| {
            let change = count(&later.usage)?.saturating_sub(count(&from).unwrap_or(0));
            let rate = (u128::from(change) * units).checked_div(micros)?;
            u64::try_from(rate).ok()
        };
        Figures {
            cpu_permille: rate(cpu_micros, 1_000),
            memory_bytes: later.usage.memory_bytes,
            tasks: later.usage.tasks,
            read_per_second: rate(|usage| usage.io_read_bytes, 1_000_000),
            written_per_second: rate(|usage| usage.io_written_bytes, 1_000_000),
        }
    }

    /// Returns the bytes that were read and written, each second.
    pub(super) fn io_per_second(&self) -> Option<u64> {
        match (self.read_per_second, self.written_per_second) {
            (None, None) => None,
            (read, written) => Some(read.unwrap_or(0).saturating_add(written.unwrap_or(0))),
        }
    }
}

fn cpu_micros(usage: &CurrentUsage) -> Option<u64> {
    Some(usage.user_us?.saturating_add(usage.system_us?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: u64, cpu_ms: u64, io_bytes: u64) -> Reading {
        Reading {
            usage: CurrentUsage {
                memory_bytes: Some(4096),
                tasks: Some(2),
                user_us: Some(cpu_ms * 600),
                system_us: Some(cpu_ms * 400),
                io_read_bytes: Some(io_bytes),
                io_written_bytes: None,
            },
            running_time: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn rates_are_those_between_two_readings_or_of_all_the_time() {
        for (earlier, later, cpu_permille, read_per_second) in [
            (None, reading(10, 5_000, 1_000), Some(500), Some(100)),
            (
                Some(reading(10, 5_000, 1_000)),
                reading(12, 8_000, 1_000),
                Some(1_500),
                Some(0),
            ),
            // The clock was set back, or nothing has been counted since.
            (Some(reading(12, 0, 0)), reading(10, 1, 1), None, None),
            (Some(reading(10, 5, 5)), reading(12, 4, 4), Some(0), Some(0)),
            (None, reading(0, 1, 1), None, None),
            (
                None,
                reading(1, u64::MAX / 1_000, u64::MAX),
                Some(18_446_744_073_709_551),
                Some(u64::MAX),
            ),
        ] {
            let figures = Figures::new(earlier.as_ref(), &later);
            let expected = Figures {
                cpu_permille,
                memory_bytes: Some(4096),
                tasks: Some(2),
                read_per_second,
                written_per_second: None,
            };
            assert_eq!(figures, expected, "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn what_nothing_counts_is_missing() {
        let nothing = Reading {
            usage: CurrentUsage::default(),
            running_time: Duration::from_secs(1),
        };
        assert_eq!(Figures::new(None, &nothing), Figures::default());
        assert_eq!(Figures::default().io_per_second(), None);
        let only_read = Figures::new(None, &reading(1, 0, 7));
        assert_eq!(only_read.io_per_second(), Some(7));
    }
}
