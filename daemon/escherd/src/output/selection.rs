//! Which output of a log to read: of which streams, and from when.

use escher_protocol::{OutputStream, StreamSelection, Timestamp};

/// The times between which output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputTimes {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// Which output of a log to read. Its times count from the command's start, in microseconds, as those of the index do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutputSelection {
    streams: StreamSelection,
    since_us: u64,
    /// `None`: to the end.
    until_us: Option<u64>,
}

impl From<StreamSelection> for OutputSelection {
    fn from(streams: StreamSelection) -> Self {
        OutputSelection {
            streams,
            since_us: 0,
            until_us: None,
        }
    }
}

impl OutputSelection {
    /// Selects between `times` alone, for a command that was started at `start`.
    pub(super) fn select_times(&mut self, times: OutputTimes, start: Timestamp) {
        let after_start = |time: Timestamp| {
            let micros = time.as_micros().saturating_sub(start.as_micros());
            u64::try_from(micros).unwrap_or(0)
        };
        self.since_us = times.since.map_or(0, after_start);
        self.until_us = times.until.map(after_start);
    }

    /// Returns whether the selection includes what arrived at `time_us`.
    pub(super) fn includes(self, stream: OutputStream, time_us: u64) -> bool {
        let is_before_end = self.until_us.is_none_or(|until| time_us < until);
        self.streams.includes(stream) && self.since_us <= time_us && is_before_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_start_of_the_command() {
        let at = Timestamp::from_micros;
        for (since, until, expected) in [
            (None, None, [true, true, true]),
            (Some(at(900)), None, [true, true, true]),
            (Some(at(1_010)), None, [false, true, true]),
            (Some(at(1_011)), Some(at(1_020)), [false, false, false]),
            (None, Some(at(1_020)), [true, true, false]),
            (None, Some(at(900)), [false, false, false]),
        ] {
            let mut selection = OutputSelection::from(StreamSelection::Both);
            selection.select_times(OutputTimes { since, until }, at(1_000));
            let includes = |time_us| selection.includes(OutputStream::Stdout, time_us);
            assert_eq!([0, 10, 20].map(includes), expected, "{since:?} {until:?}");
        }
    }
}
