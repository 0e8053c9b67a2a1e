//! Taking commands on.

use std::time::Instant;

use escher_protocol::message::{EventKind, Submitted};
use escher_protocol::{
    ApiError, Blob, CancelMode, Canceller, ErrorCode, ExecutionId, ExecutionRequest, Timestamp,
    codec,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::pause::Pause;
use super::persist::{Evidence, Then};
use super::{Entry, Scheduler};
use crate::authz::SubmitPermit;
use crate::execution::{
    Event, Execution, State, Submission, check, check_limits, ensure_enforceable,
};
use crate::store::{Change, RequestDigest};

/// Tags of the parts of a request that this escherd interprets: none are defined yet.
const KNOWN_PARTS: &[u32] = &[];

/// Where the answer to a submission goes.
pub(super) type SubmitReply = oneshot::Sender<Result<Submitted, ApiError>>;

impl Scheduler {
    /// Takes a command on. The answer comes once it is on disk.
    ///
    /// # Errors
    /// Why not: an invalid request, a part that is not supported, a conflict of keys, a limit that
    /// cannot be enforced, a full queue, a daemon about to stop. Through the answer: a store that cannot be written, a key that belongs to an execution of
    /// long ago.
    pub fn submit(
        &mut self,
        permit: SubmitPermit,
        request: Box<ExecutionRequest>,
        now: Timestamp,
    ) -> Result<oneshot::Receiver<Result<Submitted, ApiError>>, ApiError> {
        request.parts.ensure_understood(KNOWN_PARTS)?;
        let (reply, answer) = oneshot::channel();
        let (submitter, account) = permit.into_parts();
        let (weight, digest) = weigh(&request);
        let key = request.key.clone().map(|key| (submitter.uid, key));
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)).copied() {
            self.resubmitted(known, &request, digest, reply)?;
            return Ok(answer);
        }
        if self.is_shutting_down {
            let message = "escherd is about to stop and takes no new commands";
            return Err(ApiError::new(ErrorCode::SHUTTING_DOWN, message));
        }
        let checked = check(&request, &self.settings.request)?;
        check_limits(&request.limits)?;
        ensure_enforceable(&request.limits, self.controllers)?;
        let waiting = self.queue.len() + self.arriving;
        let launching = waiting == 0 && self.launched < self.settings.max_concurrent;
        let max_pending = self.settings.max_pending;
        if !launching && waiting >= max_pending {
            let message = format!("{max_pending} executions are waiting already, as many as may");
            return Err(queue_full(message));
        }
        let max_bytes = self.settings.max_pending_bytes;
        if !launching && self.waiting_bytes + weight > max_bytes {
            let message = format!(
                "the requests that wait have {} bytes, and this one has {weight}: more than {max_bytes} are too many",
                self.waiting_bytes
            );
            return Err(queue_full(message));
        }
        let id = ExecutionId::generate();
        self.last_number += 1;
        let submission = Submission {
            id,
            number: self.last_number,
            request,
            checked,
            submitter,
            account,
            submitted_at: now,
            log_path: self.log_path(id),
        };
        self.take_on(submission, weight, digest, key, launching, reply);
        Ok(answer)
    }

    fn take_on(
        &mut self,
        submission: Submission,
        weight: u64,
        digest: Option<RequestDigest>,
        key: Option<(u32, escher_protocol::Text)>,
        launching: bool,
        reply: SubmitReply,
    ) {
        let (number, now) = (submission.number, submission.submitted_at);
        let event = self.events.assign(&submission, now, EventKind::Submitted);
        let change = Change::Submitted {
            submission: Box::new(submission.clone()),
            digest,
            launching,
        };
        self.keys.extend(key.map(|key| (key, number)));
        let execution = Execution::in_state(submission, State::Queued);
        let mut entry = Entry::new(execution, weight, digest);
        entry.submitters.push(reply);
        self.insert(entry);
        if launching {
            self.transition(number, Event::Admit);
            self.launched += 1;
        } else {
            self.arriving += 1;
            self.waiting_bytes += weight;
        }
        self.record(change, vec![event], Then::Submitted { number });
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let submission = &entry.execution.submission;
        self.numbers.insert(submission.id, submission.number);
        self.entries.insert(submission.number, entry);
    }

    /// A request whose key is known: the same execution, if it is the same request.
    fn resubmitted(
        &mut self,
        number: u64,
        request: &ExecutionRequest,
        digest: Option<RequestDigest>,
        reply: SubmitReply,
    ) -> Result<(), ApiError> {
        let conflict = || Err(key_conflict(request, number));
        let Some(entry) = self.entries.get_mut(&number) else {
            return conflict();
        };
        if entry.digest != digest {
            return conflict();
        }
        if entry.is_recorded {
            drop(reply.send(Ok(entry.submitted(true))))
        } else {
            entry.submitters.push(reply)
        }
        Ok(())
    }

    /// Its submission is on disk: its submitters are told, and it goes its way.
    pub(super) fn submitted(&mut self, number: u64, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_recorded = true;
        self.metrics.count_submitted();
        let mut existing = false;
        for reply in std::mem::take(&mut entry.submitters) {
            let _ = reply.send(Ok(entry.submitted(existing)));
            existing = true;
        }
        match entry.execution.state {
            State::Queued => {
                self.arriving -= 1;
                self.queue.insert(number);
                self.admit();
            }
            _ => self.launch(number),
        }
        if self.is_shutting_down {
            self.cancel_number(number, Canceller::Host, CancelMode::Graceful, now);
        }
    }

    /// Its key was used before, by an execution that has left memory.
    pub(super) fn key_taken(&mut self, number: u64, known: Submitted, same: bool) {
        let request = self
            .entries
            .get(&number)
            .map(|entry| &entry.execution.submission.request);
        let answer = match request {
            Some(request) if !same => Err(key_conflict(request, known.number)),
            _ => Ok(known),
        };
        self.not_submitted(number, &answer);
    }

    /// Its submission was not written: it has never been.
    pub(super) fn not_submitted(&mut self, number: u64, answer: &Result<Submitted, ApiError>) {
        let Some(entry) = self.drop_entry(number) else {
            return;
        };
        match entry.execution.state {
            State::Queued => {
                self.arriving -= 1;
                self.waiting_bytes -= entry.weight;
            }
            _ => self.launched -= 1,
        }
        for reply in entry.submitters {
            let _ = reply.send(answer.clone());
        }
        self.admit();
    }

    fn log_path(&self, id: ExecutionId) -> Blob {
        let path = self.settings.log_dir.join(format!("{id}.log"));
        path.into_os_string().into()
    }
}

impl Entry {
    /// An execution that is not on disk yet.
    pub(super) fn new(execution: Execution, weight: u64, digest: Option<RequestDigest>) -> Self {
        Entry {
            execution,
            weight,
            digest,
            is_recorded: false,
            known_since: Instant::now(),
            launched_at: None,
            has_shim: false,
            pause: Pause::default(),
            measured: None,
            evidence: Evidence::None,
            is_told: false,
            submitters: Vec::new(),
            waiters: Vec::new(),
            late: Vec::new(),
            progress: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.execution.state.status().is_finished()
    }

    fn submitted(&self, existing: bool) -> Submitted {
        let submission = &self.execution.submission;
        Submitted {
            id: submission.id,
            number: submission.number,
            existing,
        }
    }
}

/// Returns the length of an encoded request, and its digest if it has a key.
pub(super) fn weigh(request: &ExecutionRequest) -> (u64, Option<RequestDigest>) {
    // A message of the protocol always encodes.
    let encoded = codec::encode(request).unwrap_or_default();
    let digest = request
        .key
        .as_ref()
        .map(|_| Sha256::digest(&encoded).into());
    (encoded.len() as u64, digest)
}

fn queue_full(message: String) -> ApiError {
    ApiError::new(ErrorCode::QUEUE_FULL, message).with_hint("try again once some have finished")
}

/// The key of `request` is that of another one.
fn key_conflict(request: &ExecutionRequest, number: u64) -> ApiError {
    let key = request.key.as_deref().unwrap_or_default();
    let message =
        format!("the key {key:?} belongs to execution {number}, which was another request");
    ApiError::new(ErrorCode::KEY_CONFLICT, message).with_hint("use a new key for a new command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Effect;
    use crate::scheduler::testbed::{at, commit, settings, submit};
    use escher_protocol::{Controllers, Part, ResourceLimits};

    const NONE: ResourceLimits = ResourceLimits {
        memory_max: None,
        cpu_quota: None,
        tasks_max: None,
    };
    const FEW_TASKS: ResourceLimits = ResourceLimits {
        tasks_max: Some(5),
        ..NONE
    };

    fn scheduler() -> Scheduler {
        let mut scheduler = Scheduler::new(settings(10));
        scheduler.set_controllers(Some(Controllers {
            pids: true,
            ..Controllers::default()
        }));
        scheduler
    }

    #[test]
    fn a_key_stands_for_the_request_with_its_limits() {
        let mut scheduler = scheduler();
        let number = submit(&mut scheduler, FEW_TASKS, Some("k"));
        assert_eq!(submit(&mut scheduler, FEW_TASKS, Some("k")), number);
        let error = submit(&mut scheduler, NONE, Some("k")).unwrap_err();
        assert_eq!(error.code, ErrorCode::KEY_CONFLICT);
    }

    fn with_parts(parts: Vec<Part>) -> Box<ExecutionRequest> {
        Box::new(ExecutionRequest {
            key: Some("k".into()),
            command: escher_protocol::Command::Exec {
                argv: vec!["true".into()],
            },
            parts: parts.try_into().unwrap(),
            ..ExecutionRequest::default()
        })
    }

    #[test]
    fn an_unknown_part_that_must_be_understood_is_refused_before_a_number_is_used() {
        let mut scheduler = scheduler();
        let request = with_parts(vec![Part::new(2, "optional"), Part::new(7, "required")]);
        let refused = scheduler.submit(SubmitPermit::for_root(), request, at(0));
        let error = refused.unwrap_err();
        assert_eq!(error.code, ErrorCode::UNSUPPORTED);
        assert!(error.message.contains("part 7"), "{error}");
        assert_eq!(commit(&mut scheduler, at(0)), []);
        assert_eq!(submit(&mut scheduler, NONE, None), Ok(1));
    }

    #[test]
    fn a_record_gives_back_the_unknown_parts_and_the_key_stands_for_them() {
        let mut scheduler = scheduler();
        let parts = vec![Part::new(2, "optional")];
        let submit = |scheduler: &mut Scheduler, parts| {
            scheduler.submit(SubmitPermit::for_root(), with_parts(parts), at(0))
        };
        submit(&mut scheduler, parts.clone()).unwrap();
        commit(&mut scheduler, at(0));
        let record = scheduler.status(1).try_recv().unwrap();
        assert_eq!(record.parts, parts.try_into().unwrap());
        let error = submit(&mut scheduler, Vec::new()).unwrap_err();
        assert_eq!(error.code, ErrorCode::KEY_CONFLICT);
    }

    #[test]
    fn only_limits_that_can_be_enforced_are_taken_on() {
        let mut scheduler = scheduler();
        let memory = ResourceLimits {
            memory_max: Some(1),
            ..NONE
        };
        let error = submit(&mut scheduler, memory, None).unwrap_err();
        assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
        let nothing = ResourceLimits {
            tasks_max: Some(0),
            ..NONE
        };
        let error = submit(&mut scheduler, nothing, None).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn a_launch_has_the_limits_of_its_submission() {
        let mut scheduler = scheduler();
        let request = ExecutionRequest {
            command: escher_protocol::Command::Exec {
                argv: vec!["true".into()],
            },
            limits: FEW_TASKS,
            ..ExecutionRequest::default()
        };
        let permit = SubmitPermit::for_root();
        let answer = scheduler.submit(permit, Box::new(request), at(0));
        let effects = commit(&mut scheduler, at(0));
        assert!(answer.is_ok());
        let [Effect::Launch(assignment)] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        assert_eq!(assignment.limits, FEW_TASKS);
    }
}
