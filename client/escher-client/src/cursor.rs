//! Where a stream stands, and what to ask for to go on from there.

use escher_protocol::message::Event;
use escher_protocol::{ExecutionRecord, OutputChunk, OutputStart, Request};

/// A request for a stream, moved on with each element that was given out.
#[derive(Debug)]
pub struct Cursor {
    request: Request,
    /// Number of the last execution of a list. They fall: the newest come first.
    last_listed: Option<u64>,
    /// Executions that a limit still allows.
    left: Option<u32>,
}

impl Cursor {
    /// At the beginning of what answers `request`.
    pub(crate) fn new(request: Request) -> Self {
        let limit = match &request {
            Request::List(selection) => selection.filter.limit,
            _ => 0,
        };
        Cursor {
            request,
            last_listed: None,
            left: (limit > 0).then_some(limit),
        }
    }

    /// The request that goes on from here.
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Whether nothing of what was asked for is left.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.request {
            Request::ReadOutput(request) => request.length == Some(0),
            _ => self.left == Some(0),
        }
    }

    /// Passes over a chunk.
    pub(crate) fn pass_output(&mut self, chunk: &OutputChunk) {
        if let Request::ReadOutput(request) = &mut self.request {
            let end = chunk.offset.saturating_add(chunk.data.len() as u64);
            let begun = match request.start {
                OutputStart::Offset(offset) => offset,
                // The first chunk begins where the last lines do.
                OutputStart::LastLines(_) => chunk.offset,
            };
            request.length = request
                .length
                .map(|length| length.saturating_sub(end.saturating_sub(begun)));
            request.start = OutputStart::Offset(end);
        }
    }

    /// Passes over an event.
    pub(crate) fn pass_event(&mut self, event: &Event) {
        if let Request::Events(request) = &mut self.request {
            request.after = Some(event.sequence);
        }
    }

    /// Passes over an execution; whether it had not been given out yet.
    pub(crate) fn pass_execution(&mut self, record: &ExecutionRecord) -> bool {
        if self.last_listed.is_some_and(|last| record.number >= last) {
            return false;
        }
        self.last_listed = Some(record.number);
        self.left = self.left.map(|left| left.saturating_sub(1));
        // Asked again, the newest come first once more, and those that are new since count, too: the
        // limit is kept here from now on.
        if let Request::List(selection) = &mut self.request {
            selection.filter.limit = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::message::{ListFilter, OutputRequest};
    use escher_protocol::{OutputStream, StreamSelection};

    fn output(start: OutputStart, length: Option<u64>) -> Cursor {
        Cursor::new(Request::ReadOutput(OutputRequest {
            target: "1".into(),
            streams: StreamSelection::Both,
            start,
            length,
            follow: true,
        }))
    }

    fn after(cursor: &mut Cursor, offset: u64, length: usize) -> (OutputStart, Option<u64>) {
        cursor.pass_output(&OutputChunk {
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
    fn output_goes_on_behind_the_last_chunk_with_what_is_left_of_the_length() {
        let mut cursor = output(OutputStart::Offset(10), Some(100));
        assert_eq!(
            after(&mut cursor, 30, 5),
            (OutputStart::Offset(35), Some(75))
        );
        assert!(!cursor.is_complete());
        assert_eq!(
            after(&mut cursor, 35, 75),
            (OutputStart::Offset(110), Some(0))
        );
        assert!(cursor.is_complete());
    }

    #[test]
    fn last_lines_are_counted_once() {
        let mut cursor = output(OutputStart::LastLines(3), Some(100));
        assert_eq!(
            after(&mut cursor, 700, 40),
            (OutputStart::Offset(740), Some(60))
        );
        let mut cursor = output(OutputStart::LastLines(3), None);
        assert_eq!(
            after(&mut cursor, 700, 40),
            (OutputStart::Offset(740), None)
        );
    }

    #[test]
    fn a_limit_counts_what_was_given_out() {
        let filter = ListFilter {
            limit: 3,
            ..ListFilter::default()
        };
        let mut cursor = Cursor::new(Request::List(filter.into()));
        let mut pass = |number| {
            let record = crate::sample::record(number);
            (cursor.pass_execution(&record), cursor.is_complete())
        };
        assert_eq!(pass(9), (true, false));
        // Asked again: one that is new since, and the one that was there.
        assert_eq!(pass(12), (false, false));
        assert_eq!(pass(9), (false, false));
        assert_eq!(pass(7), (true, false));
        assert_eq!(pass(2), (true, true));
    }
}
