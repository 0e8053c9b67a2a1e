//! The position of a stream, from which it continues on another connection.

use escher_protocol::message::EventsStart;
use escher_protocol::{
    ExecutionRecord, ExecutionUsage, GapReason, OutputChunk, OutputGap, OutputStart, Request,
};

/// The request of a stream, updated with each item so that it asks for the rest.
#[derive(Debug)]
pub struct Cursor {
    request: Request,
    /// The number of the last execution of a list or of measurements. Both are sorted by descending number.
    last_number: Option<u64>,
    /// How many more executions the limit of a list allows.
    remaining: Option<u32>,
    /// Where output that was dropped was last reported missing. Reading on from there reports it again.
    last_drop: Option<u64>,
}

impl Cursor {
    /// Creates the cursor of a stream that has not returned any item.
    pub(crate) fn new(request: Request) -> Self {
        let limit = match &request {
            Request::List(selection) => selection.filter.limit,
            _ => 0,
        };
        Cursor {
            request,
            last_number: None,
            remaining: (limit > 0).then_some(limit),
            last_drop: None,
        }
    }

    /// Returns the request that continues the stream.
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Whether the stream has returned everything that was requested.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.request {
            Request::ReadOutput(request) => request.length == Some(0),
            _ => self.remaining == Some(0),
        }
    }

    /// Advances past a chunk of output.
    pub(crate) fn advance_output(&mut self, chunk: &OutputChunk) {
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        // The first chunk starts where the requested lines start.
        self.continue_at(end, chunk.offset);
    }

    /// Advances past missing output. Returns whether that is new to the stream.
    pub(crate) fn advance_gap(&mut self, gap: &OutputGap) -> bool {
        if gap.reason == GapReason::Dropped {
            return self.last_drop.replace(gap.offset) != Some(gap.offset);
        }
        // Where last lines are requested, what is missing before them is none of their length.
        self.continue_at(gap.end(), gap.end());
        true
    }

    /// Continues the output at `end`. `first` is where it starts, if lines are requested.
    fn continue_at(&mut self, end: u64, first: u64) {
        if let Request::ReadOutput(request) = &mut self.request {
            let start = match request.start {
                OutputStart::Offset(offset) => offset,
                OutputStart::LastLines(_) => first,
            };
            request.length = request
                .length
                .map(|length| length.saturating_sub(end.saturating_sub(start)));
            request.start = OutputStart::Offset(end);
        }
    }

    /// Advances past the event with this sequence number.
    pub(crate) fn advance_event(&mut self, sequence: u64) {
        if let Request::Events(request) = &mut self.request {
            request.start = EventsStart::After(sequence);
        }
    }

    /// Advances past an execution. Returns whether it is new to the stream.
    pub(crate) fn advance_execution(&mut self, record: &ExecutionRecord) -> bool {
        if !self.advance_number(record.number) {
            return false;
        }
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(1));
        // A repeated request lists the newest executions again, including ones submitted since, and
        // they would count towards its limit. So only `remaining` limits it.
        if let Request::List(selection) = &mut self.request {
            selection.filter.limit = 0;
        }
        true
    }

    /// Advances past the measurement of an execution. Returns whether it is new to the stream.
    pub(crate) fn advance_usage(&mut self, usage: &ExecutionUsage) -> bool {
        self.advance_number(usage.number)
    }

    fn advance_number(&mut self, number: u64) -> bool {
        let is_new = self.last_number.is_none_or(|last| number < last);
        if is_new {
            self.last_number = Some(number);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::message::{ListFilter, OutputRequest};
    use escher_protocol::{OutputStream, StreamSelection};

    fn output_cursor(start: OutputStart, length: Option<u64>) -> Cursor {
        Cursor::new(Request::ReadOutput(OutputRequest {
            target: "1".into(),
            streams: StreamSelection::Both,
            start,
            length,
            since: None,
            until: None,
            follow: true,
        }))
    }

    /// Advances past a chunk of `length` bytes. Returns the start and the length of the next request.
    fn advance(cursor: &mut Cursor, offset: u64, length: usize) -> (OutputStart, Option<u64>) {
        cursor.advance_output(&OutputChunk {
            stream: OutputStream::Stdout,
            offset,
            time_us: 0,
            data: vec![0; length].into(),
        });
        match cursor.request() {
            Request::ReadOutput(request) => (request.start, request.length),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn output_continues_after_the_last_chunk_with_the_remaining_length() {
        let mut cursor = output_cursor(OutputStart::Offset(10), Some(100));
        assert_eq!(
            advance(&mut cursor, 30, 5),
            (OutputStart::Offset(35), Some(75))
        );
        assert!(!cursor.is_complete());
        assert_eq!(
            advance(&mut cursor, 35, 75),
            (OutputStart::Offset(110), Some(0))
        );
        assert!(cursor.is_complete());
    }

    #[test]
    fn output_continues_after_a_gap() {
        let gap = |offset, bytes, reason| OutputGap {
            offset,
            bytes: Some(bytes),
            reason,
        };
        let start = |cursor: &Cursor| match cursor.request() {
            Request::ReadOutput(request) => (request.start, request.length),
            other => panic!("{other:?}"),
        };
        for reason in [GapReason::Forgotten, GapReason::Cut] {
            let mut cursor = output_cursor(OutputStart::Offset(10), Some(100));
            assert!(cursor.advance_gap(&gap(10, 30, reason)));
            assert_eq!(start(&cursor), (OutputStart::Offset(40), Some(70)));
            let mut cursor = output_cursor(OutputStart::LastLines(2), Some(100));
            assert!(cursor.advance_gap(&gap(0, 30, reason)));
            assert_eq!(start(&cursor), (OutputStart::Offset(30), Some(100)));
        }
        // Output that was dropped has no offsets, and is reported once.
        let mut cursor = output_cursor(OutputStart::Offset(10), Some(100));
        let dropped = gap(10, 30, GapReason::Dropped);
        assert!(cursor.advance_gap(&dropped));
        assert!(!cursor.advance_gap(&dropped));
        assert_eq!(start(&cursor), (OutputStart::Offset(10), Some(100)));
        assert!(cursor.advance_gap(&gap(11, 30, GapReason::Dropped)));
    }

    #[test]
    fn last_lines_are_requested_once() {
        let mut cursor = output_cursor(OutputStart::LastLines(3), Some(100));
        assert_eq!(
            advance(&mut cursor, 700, 40),
            (OutputStart::Offset(740), Some(60))
        );
        let mut cursor = output_cursor(OutputStart::LastLines(3), None);
        assert_eq!(
            advance(&mut cursor, 700, 40),
            (OutputStart::Offset(740), None)
        );
    }

    #[test]
    fn limit_counts_returned_executions() {
        let filter = ListFilter {
            limit: 3,
            ..ListFilter::default()
        };
        let mut cursor = Cursor::new(Request::List(filter.into()));
        let mut advance = |number| {
            let record = escher_tests::samples::record(number);
            (cursor.advance_execution(&record), cursor.is_complete())
        };
        assert_eq!(advance(9), (true, false));
        // After a reconnect: an execution submitted since, and the one returned before.
        assert_eq!(advance(12), (false, false));
        assert_eq!(advance(9), (false, false));
        assert_eq!(advance(7), (true, false));
        assert_eq!(advance(2), (true, true));
    }

    #[test]
    fn an_execution_that_is_measured_again_after_a_reconnect_is_not_returned_twice() {
        let mut cursor = Cursor::new(Request::MeasureRunning);
        let mut advance = |number| {
            let usage = ExecutionUsage {
                id: escher_tests::samples::record(number).id,
                number,
                usage: escher_protocol::CurrentUsage::default(),
            };
            cursor.advance_usage(&usage)
        };
        assert_eq!([9, 7].map(&mut advance), [true; 2]);
        assert_eq!([12, 9, 7].map(&mut advance), [false; 3]);
        assert!(advance(2));
    }
}
