//! Turns the events of executions into the calls of an event handler.
//!
//! The event handlers of escherd's library and of the client library share this. Events say which
//! executions start and end; an [`ExecutionTracker`] selects the ones to report, and a [`Report`]
//! reports one of them: its start, its output, its end. All I/O is done by an [`ExecutionSource`].

use std::collections::HashSet;

use crate::event::ExecutionEvent;
use crate::execution::ExecutionRecord;
use crate::id::ExecutionId;
use crate::message::{Event, EventKind};
use crate::output::{OutputItem, OutputStream};
use crate::time::Timestamp;

/// Provides the output and the results of executions.
pub trait ExecutionSource: Sync {
    /// Why the output or the result cannot be had.
    type Error: Send;

    /// Waits until an execution is finished, and returns its record.
    fn finished(
        &self,
        id: ExecutionId,
    ) -> impl Future<Output = Result<ExecutionRecord, Self::Error>> + Send;

    /// Passes the output of an execution to `receive`, from the byte `offset` of its log to the end of
    /// the execution.
    fn follow_output(
        &self,
        id: ExecutionId,
        offset: u64,
        receive: &mut (dyn FnMut(OutputItem) + Send),
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns whether the error concerns this execution or its output alone.
    fn is_refusal(error: &Self::Error) -> bool;
}

/// Selects the executions to report: those that start from now on.
#[derive(Debug, Clone)]
pub struct ExecutionTracker {
    /// The executions whose end needs no report of its own: they are being reported since their start,
    /// or started too early to be reported at all.
    started: HashSet<ExecutionId>,
}

impl ExecutionTracker {
    /// Creates a tracker that does not report the `running` executions.
    #[must_use]
    pub fn new(running: HashSet<ExecutionId>) -> Self {
        ExecutionTracker { started: running }
    }

    /// Records an event. Returns the report to make of its execution, if one begins now.
    ///
    /// For events from before the handler was added, drop the report.
    pub fn observe(&mut self, event: &Event) -> Option<Report> {
        let id = event.id;
        match event.kind {
            EventKind::Started => {
                self.started.insert(id);
                let started_at = Some(event.time);
                Some(Report { id, started_at })
            }
            EventKind::Finished(_) if !self.started.remove(&id) => Some(Report {
                id,
                started_at: None,
            }),
            EventKind::Finished(_) | EventKind::Submitted | EventKind::CancelRequested(_) => None,
        }
    }
}

/// Reports one execution to an event handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an execution is not reported before `deliver` is called"]
pub struct Report {
    id: ExecutionId,
    /// `None` if there was no event of its start: it never started, or did while escherd was down.
    started_at: Option<Timestamp>,
}

impl Report {
    /// Calls `handler` with what happens to the execution, up to its end.
    ///
    /// Output that cannot be had is left out.
    ///
    /// # Errors
    /// The error of `source`. If it is a refusal, the execution was removed before its end was reported.
    pub async fn deliver<S: ExecutionSource>(
        self,
        source: &S,
        handler: &(dyn Fn(ExecutionEvent) + Send + Sync),
    ) -> Result<(), S::Error> {
        let id = self.id;
        let started_at = match self.started_at {
            Some(at) => Some(at),
            None => source.finished(id).await?.started_at,
        };
        if let Some(at) = started_at {
            handler(ExecutionEvent::Started { id, at });
            self.deliver_output(source, handler).await?;
        }
        let record = source.finished(id).await?;
        if let Some(end) = ExecutionEvent::from_finished(record) {
            handler(end);
        }
        Ok(())
    }

    async fn deliver_output<S: ExecutionSource>(
        self,
        source: &S,
        handler: &(dyn Fn(ExecutionEvent) + Send + Sync),
    ) -> Result<(), S::Error> {
        let id = self.id;
        let mut next_offset = 0;
        let mut followed = self.follow_output(source, handler, &mut next_offset).await;
        if followed.as_ref().is_err_and(S::is_refusal) {
            // The output may be served only after the end.
            source.finished(id).await?;
            followed = self.follow_output(source, handler, &mut next_offset).await;
        }
        match followed {
            Err(error) if S::is_refusal(&error) => Ok(()),
            followed => followed,
        }
    }

    /// Delivers the output from `next_offset` on, and advances `next_offset`.
    async fn follow_output<S: ExecutionSource>(
        self,
        source: &S,
        handler: &(dyn Fn(ExecutionEvent) + Send + Sync),
        next_offset: &mut u64,
    ) -> Result<(), S::Error> {
        let id = self.id;
        let offset = *next_offset;
        let mut receive = |item: OutputItem| {
            let chunk = match item {
                OutputItem::Chunk(chunk) => chunk,
                OutputItem::Gap(gap) => {
                    *next_offset = gap.end();
                    handler(ExecutionEvent::OutputMissing { id, gap });
                    return;
                }
            };
            *next_offset = chunk.offset.saturating_add(chunk.data.len() as u64);
            let data = chunk.data;
            handler(match chunk.stream {
                OutputStream::Stdout => ExecutionEvent::Stdout { id, data },
                OutputStream::Stderr => ExecutionEvent::Stderr { id, data },
            });
        };
        source.follow_output(id, offset, &mut receive).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::Status;
    use crate::user::User;

    fn event(number: u8, kind: EventKind) -> Event {
        Event {
            sequence: 1,
            time: Timestamp::from_micros(5),
            id: ExecutionId::from_bytes([number; 16]),
            number: number.into(),
            name: None,
            user: User {
                uid: 1000,
                name: None,
            },
            kind,
        }
    }

    fn report(number: u8, started_at: Option<i64>) -> Option<Report> {
        Some(Report {
            id: ExecutionId::from_bytes([number; 16]),
            started_at: started_at.map(Timestamp::from_micros),
        })
    }

    const FINISHED: EventKind = EventKind::Finished(Status::Completed);

    #[test]
    fn reports_an_execution_from_its_start_once() {
        let mut tracker = ExecutionTracker::new(HashSet::new());
        assert_eq!(tracker.observe(&event(1, EventKind::Submitted)), None);
        let started = tracker.observe(&event(1, EventKind::Started));
        assert_eq!(started, report(1, Some(5)));
        assert_eq!(tracker.observe(&event(1, FINISHED)), None);
    }

    #[test]
    fn does_not_report_what_was_running_before() {
        let running = HashSet::from([ExecutionId::from_bytes([1; 16])]);
        let mut tracker = ExecutionTracker::new(running);
        assert_eq!(tracker.observe(&event(1, FINISHED)), None);
    }

    #[test]
    fn reports_the_end_of_an_execution_without_a_start() {
        let mut tracker = ExecutionTracker::new(HashSet::new());
        assert_eq!(tracker.observe(&event(1, FINISHED)), report(1, None));
    }
}
