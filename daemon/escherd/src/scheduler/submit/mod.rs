//! Submission of commands.

use std::time::Instant;

use escher_protocol::message::{EventKind, Submitted};
use escher_protocol::{
    ApiError, Blob, CancelMode, Canceller, ErrorCode, ExecutionId, ExecutionRequest, Timestamp,
    User, codec,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::finish::Evidence;
use super::key_conflict::key_conflict;
use super::pause::Pause;
use super::persist::OnCommit;
use super::signals::PendingSignals;
use super::stdin_hold::StdinHolders;
use super::usage::UsageWaiters;
use super::withdrawal::LaunchPhase;
use super::{Entry, Scheduler};
use crate::authz::SubmitPermit;
use crate::execution::{
    Execution, Extent, State, Submission, Transition, check_arguments, check_limits,
    check_process_limits, check_request, ensure_limits_enforceable, ensure_log_can_forget,
    ensure_process_limits_permitted, ensure_user_limits_enforceable,
};
use crate::store::{Change, RequestDigest};

/// Tags of the parts of a request that this escherd interprets: none are defined yet.
const KNOWN_PARTS: &[u32] = &[];

/// Sends the answer to a submission.
pub(super) type SubmitResponder = oneshot::Sender<Result<Submitted, ApiError>>;

impl Scheduler {
    /// Submits a command. The answer comes once the submission is committed; where the store does not get all of it,
    /// once a shim has it.
    ///
    /// # Errors
    /// `invalid-request`, `arguments-too-long`, `timeout-too-long`, `unsupported`, `key-conflict`,
    /// `limit-unenforceable`, `permission-denied`, `over-quota`, `queue-full`, `shutting-down`.
    /// In the answer: `store-unavailable`, or `key-conflict` with an execution that has left memory.
    pub fn submit(
        &mut self,
        permit: SubmitPermit,
        mut request: Box<ExecutionRequest>,
        now: Timestamp,
    ) -> Result<oneshot::Receiver<Result<Submitted, ApiError>>, ApiError> {
        request.parts.ensure_understood(KNOWN_PARTS)?;
        let (responder, answer) = oneshot::channel();
        let (submitter, account) = permit.into_parts();
        let (request_bytes, digest) = size_and_digest(&mut request);
        let key = request.key.clone().map(|key| (submitter.clone(), key));
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)).copied() {
            self.answer_known_key(known, &request, digest, responder)?;
            return Ok(answer);
        }
        if self.is_shutting_down {
            let message = "escherd is stopping and accepts no new commands";
            return Err(ApiError::new(ErrorCode::SHUTTING_DOWN, message));
        }
        let timeouts = check_request(&request, &self.settings.request)?;
        check_arguments(&request, &account)?;
        check_limits(&request.limits)?;
        check_process_limits(&request.process)?;
        ensure_process_limits_permitted(
            &request.process,
            submitter.uid,
            self.process_defaults.as_ref(),
        )?;
        ensure_limits_enforceable(&request.limits, self.controllers)?;
        let user_limits = self.settings.user_limits_of(submitter.uid);
        ensure_user_limits_enforceable(&user_limits, self.controllers)?;
        ensure_log_can_forget(&self.settings.log_limits, self.log_dir)?;
        let is_admitted = self.shares.is_admitted_at_once(submitter.uid);
        if !is_admitted {
            self.shares.ensure_queueable(submitter.uid, request_bytes)?;
        }
        let id = ExecutionId::generate();
        self.last_number += 1;
        let submission = Submission {
            id,
            number: self.last_number,
            request,
            timeouts,
            submitter,
            account,
            submitted_at: now,
            log_path: self.log_path(id),
            lacks_inherited: false,
        };
        self.accept(
            submission,
            request_bytes,
            digest,
            key,
            is_admitted,
            responder,
        );
        Ok(answer)
    }

    /// Adds an accepted submission, and records it.
    fn accept(
        &mut self,
        submission: Submission,
        request_bytes: u64,
        digest: Option<RequestDigest>,
        key: Option<(User, escher_protocol::Text)>,
        is_admitted: bool,
        responder: SubmitResponder,
    ) {
        let (number, now) = (submission.number, submission.submitted_at);
        let event = self.events.assign(&submission, now, EventKind::Submitted);
        let mut kept = submission.clone();
        // What waits is launched after its commit, so that the store has the rest.
        let extent = if is_admitted {
            Extent::Whole
        } else {
            kept.shorten_if_large()
        };
        self.keys.extend(key.map(|key| (key, number)));
        if is_admitted {
            self.shares.take_slot(&submission.submitter);
        } else {
            self.shares
                .add_pending(&submission.submitter, request_bytes);
        }
        let execution = Execution {
            extent,
            ..Execution::in_state(kept, State::Queued)
        };
        let mut entry = Entry::new(execution, request_bytes, digest);
        entry.submit_responders.push(responder);
        // A launch that may wait for a launcher is acknowledged before.
        let stored = if is_admitted && self.has_launcher {
            submission.without_inherited()
        } else {
            submission
        };
        entry.is_answered_by_shim = stored.lacks_inherited;
        self.insert(entry);
        if is_admitted {
            self.transition(number, Transition::Admit);
            self.count_launch_attempt(number);
        }
        self.log_step(number, "submitted: recording the submission");
        let change = Change::Submitted {
            submission: Box::new(stored),
            digest,
            is_admitted,
        };
        self.commit(change, vec![event], OnCommit::Submitted { number });
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let submission = &entry.execution.submission;
        self.numbers.insert(submission.id, submission.number);
        let number = submission.number;
        self.entries.insert(number, entry);
        self.await_first_stdin_holder(number);
    }

    /// Answers a request whose key is in use with the execution of that key, if it is the same request.
    fn answer_known_key(
        &mut self,
        number: u64,
        request: &ExecutionRequest,
        digest: Option<RequestDigest>,
        responder: SubmitResponder,
    ) -> Result<(), ApiError> {
        let Some(entry) = self.entries.get_mut(&number) else {
            return Err(key_conflict(request, number, None));
        };
        if entry.digest != digest {
            return Err(key_conflict(request, number, Some(&entry.execution)));
        }
        if entry.is_committed && entry.submit_responders.is_empty() {
            let _ = responder.send(Ok(entry.submitted(true)));
        } else {
            entry.submit_responders.push(responder);
        }
        Ok(())
    }

    /// Continues after the commit of a submission: answers the submitters, and launches or queues it.
    pub(super) fn on_submission_committed(&mut self, number: u64, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.is_committed = true;
        self.metrics.count_submitted();
        if !entry.is_answered_by_shim {
            entry.answer_submitters();
        }
        match entry.execution.state {
            State::Queued => {
                let (uid, bytes) = (entry.submitter().uid, entry.request_bytes);
                self.shares.make_eligible(uid, number, bytes);
                self.admit();
            }
            // It is cancelled below, without a launch.
            State::Admitted { .. } if self.is_shutting_down => {}
            _ => self.launch(number, None),
        }
        if self.is_shutting_down {
            self.cancel_without_answer(number, Canceller::Host, CancelMode::Graceful, now);
        }
    }

    /// Handles a key that an evicted execution has.
    pub(super) fn on_key_taken(&mut self, number: u64, known: Submitted, same: bool) {
        let request = self
            .entries
            .get(&number)
            .map(|entry| &entry.execution.submission.request);
        let answer = match request {
            Some(request) if !same => Err(key_conflict(request, known.number, None)),
            _ => Ok(known),
        };
        self.discard_submission(number, &answer);
    }

    /// Discards a submission that was not committed: it has never existed.
    pub(super) fn discard_submission(&mut self, number: u64, answer: &Result<Submitted, ApiError>) {
        let Some(entry) = self.drop_entry(number) else {
            return;
        };
        match entry.execution.state {
            State::Queued => self
                .shares
                .discard_pending(entry.submitter().uid, entry.request_bytes),
            _ => self.shares.free_slot(entry.submitter().uid),
        }
        for responder in entry.submit_responders {
            let _ = responder.send(answer.clone());
        }
        self.admit();
    }

    fn log_path(&self, id: ExecutionId) -> Blob {
        let path = self.settings.log_dir.join(format!("{id}.log"));
        path.into_os_string().into()
    }
}

impl Entry {
    /// Creates an entry whose submission is not committed yet.
    pub(super) fn new(
        execution: Execution,
        request_bytes: u64,
        digest: Option<RequestDigest>,
    ) -> Self {
        Entry {
            execution,
            request_bytes,
            launch_attempts: 0,
            digest,
            is_committed: false,
            known_since: Instant::now(),
            launched_at: None,
            launch_phase: LaunchPhase::NotBegun,
            waiting_cancels: Vec::new(),
            search_path: None,
            pause: Pause::default(),
            usage_waiters: UsageWaiters::default(),
            signals: PendingSignals::default(),
            stdin_hold: StdinHolders::default(),
            measured: None,
            evidence: Evidence::None,
            is_end_reported: false,
            is_end_committed: false,
            submit_responders: Vec::new(),
            is_answered_by_shim: false,
            waiters: Vec::new(),
            late_cancels: Vec::new(),
            progress: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.execution.state.status().is_finished()
    }

    /// Returns the user to whom it is charged.
    pub(super) fn submitter(&self) -> &User {
        &self.execution.submission.submitter
    }

    /// Answers the submitters that wait.
    pub(super) fn answer_submitters(&mut self) {
        let mut existing = false;
        for responder in std::mem::take(&mut self.submit_responders) {
            let _ = responder.send(Ok(self.submitted(existing)));
            existing = true;
        }
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

/// Returns the length of an encoded request, and the digest of what its key stands for, if it has one.
pub(super) fn size_and_digest(request: &mut ExecutionRequest) -> (u64, Option<RequestDigest>) {
    // They are no part of what the key stands for.
    let inherited = std::mem::take(&mut request.inherited);
    let umask = request.umask.take();
    // A message of the protocol always encodes.
    let encoded = codec::encode(request).unwrap_or_default();
    request.inherited = inherited;
    request.umask = umask;
    let inherited = request.inherited.iter();
    let inherited_bytes: usize = inherited
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let key = request.key.as_ref();
    let digest = key.map(|_| Sha256::digest(&encoded).into());
    ((encoded.len() + inherited_bytes) as u64, digest)
}

#[cfg(test)]
mod tests;
