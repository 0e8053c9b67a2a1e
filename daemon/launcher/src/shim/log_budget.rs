//! How much of the disk a log may take of what its user may take. Pure.
//!
//! escherd gives each command a budget from the share of its user (`users.log_share`). The shim asks
//! for more when half of it is used, and reads no more output than fits until escherd has answered: so
//! nothing is lost to an answer that takes a moment. While no escherd answers, the shim doubles the
//! budget by itself, once, unless the last answer was a refusal.

use std::time::{Duration, Instant};

use super::BUFFER_BYTES;
use super::log_quota::CHECK_INTERVAL_BYTES;

/// How long escherd may take to answer. It takes less than a millisecond, unless it is stopped.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Space that has to be left in the budget for another reading: what is read at once, and its records
/// in the index.
const READING_BYTES: u64 = BUFFER_BYTES as u64 + 4096;

/// The budget of one log and its index.
pub(super) struct LogBudget {
    bytes: u64,
    /// More is of no use.
    max_bytes: u64,
    request: Request,
    /// Whether the shim may double the budget itself: it has not done so since escherd's last answer, and
    /// that was no refusal.
    may_double: bool,
}

/// How far the request for a larger budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// None is needed, or none was made yet.
    None,
    /// escherd has it, and answers until then.
    Sent { wanted: u64, deadline: Instant },
    /// Less was given than was wanted. The next request follows after some output.
    Refused { output_since: u64 },
}

impl LogBudget {
    /// Creates a budget of `bytes` for a log that takes at most `max_bytes`.
    pub(super) fn new(bytes: u64, max_bytes: u64) -> Self {
        LogBudget {
            bytes,
            max_bytes,
            request: Request::None,
            may_double: true,
        }
    }

    /// Returns the bytes that log and index may take: at least 1, because 0 would be no limit.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.min(self.max_bytes).max(1)
    }

    /// Returns the budget to ask for, with `used` bytes used; `None` if no request is due.
    pub(super) fn due_request(&self, used: u64) -> Option<u64> {
        let may_ask = match self.request {
            Request::None => true,
            Request::Sent { .. } => false,
            Request::Refused { output_since } => output_since >= CHECK_INTERVAL_BYTES,
        };
        let is_due = used >= self.bytes / 2 || self.is_short(used);
        (self.bytes < self.max_bytes && may_ask && is_due).then(|| self.doubled())
    }

    /// Whether nothing may be read before escherd has answered.
    pub(super) fn must_wait(&self, used: u64) -> bool {
        matches!(self.request, Request::Sent { .. }) && self.is_short(used)
    }

    /// Whether another reading may not fit.
    pub(super) fn is_short(&self, used: u64) -> bool {
        self.bytes.saturating_sub(used) < READING_BYTES
    }

    /// Returns until when escherd has to answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.request {
            Request::Sent { deadline, .. } => Some(deadline),
            Request::None | Request::Refused { .. } => None,
        }
    }

    /// Notes that `wanted` bytes were asked for.
    pub(super) fn note_request(&mut self, wanted: u64, now: Instant) {
        let deadline = now + ANSWER_TIMEOUT;
        self.request = Request::Sent { wanted, deadline };
    }

    /// Takes the budget that escherd gives.
    pub(super) fn set(&mut self, bytes: u64) {
        let is_refused = matches!(self.request, Request::Sent { wanted, .. } if bytes < wanted);
        self.bytes = bytes;
        self.may_double = !is_refused;
        self.request = if is_refused {
            Request::Refused { output_since: 0 }
        } else {
            Request::None
        };
    }

    /// Does without the answer of escherd, which is disconnected or does not answer.
    pub(super) fn do_without_answer(&mut self) {
        if self.may_double {
            self.bytes = self.doubled();
            self.may_double = false;
            self.request = Request::None;
        } else {
            self.request = Request::Refused { output_since: 0 };
        }
    }

    /// Notes that there is another escherd, which may be asked.
    pub(super) fn on_connected(&mut self) {
        self.request = Request::None;
    }

    /// Ends all growth: nobody is asked for more.
    pub(super) fn freeze(&mut self) {
        self.max_bytes = self.bytes();
        self.request = Request::None;
    }

    /// Notes that the command has written bytes.
    pub(super) fn note_output(&mut self, bytes: u64) {
        if let Request::Refused { output_since } = &mut self.request {
            *output_since = output_since.saturating_add(bytes);
        }
    }

    fn doubled(&self) -> u64 {
        let doubled = self.bytes.saturating_mul(2).max(READING_BYTES);
        doubled.min(self.max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn unlimited(bytes: u64) -> LogBudget {
        LogBudget::new(bytes, u64::MAX)
    }

    #[test]
    fn more_is_wanted_from_half_of_the_budget_on() {
        let budget = unlimited(MIB);
        assert_eq!(budget.due_request(0), None);
        assert_eq!(budget.due_request(MIB / 2 - 1), None);
        assert_eq!(budget.due_request(MIB / 2), Some(2 * MIB));
        // A reading does not fit into the smallest budgets.
        assert_eq!(unlimited(64 * KIB).due_request(0), Some(128 * KIB));
    }

    #[test]
    fn no_more_is_wanted_than_the_log_may_take() {
        let budget = LogBudget::new(MIB, MIB + 5);
        assert_eq!(budget.due_request(MIB), Some(MIB + 5));
        for max_bytes in [1, MIB] {
            let budget = LogBudget::new(MIB, max_bytes);
            assert_eq!(budget.due_request(u64::MAX), None);
            assert_eq!(budget.bytes(), max_bytes);
        }
        assert_eq!(unlimited(u64::MAX).due_request(u64::MAX), None);
    }

    #[test]
    fn reading_waits_for_an_answer_only_where_the_budget_may_not_suffice() {
        let mut budget = unlimited(MIB);
        assert!(!budget.must_wait(MIB), "nothing was asked");
        let now = Instant::now();
        budget.note_request(2 * MIB, now);
        assert_eq!(budget.due_request(MIB), None, "it was asked");
        assert_eq!(budget.deadline(), Some(now + ANSWER_TIMEOUT));
        assert!(!budget.must_wait(MIB - READING_BYTES));
        assert!(budget.must_wait(MIB - READING_BYTES + 1));
        budget.set(2 * MIB);
        assert!(!budget.must_wait(2 * MIB));
        assert_eq!((budget.bytes(), budget.deadline()), (2 * MIB, None));
        assert_eq!(budget.due_request(MIB), Some(4 * MIB));
    }

    #[test]
    fn after_a_refusal_more_is_wanted_once_per_interval_of_output() {
        let mut budget = unlimited(MIB);
        budget.note_request(2 * MIB, Instant::now());
        budget.set(MIB + 1);
        assert_eq!(budget.bytes(), MIB + 1);
        assert_eq!(budget.due_request(MIB), None);
        assert!(!budget.must_wait(MIB), "the log is full");
        budget.note_output(CHECK_INTERVAL_BYTES - 1);
        assert_eq!(budget.due_request(MIB), None);
        budget.note_output(1);
        assert_eq!(budget.due_request(MIB), Some(2 * MIB + 2));
        budget.note_request(2 * MIB + 2, Instant::now());
        budget.do_without_answer();
        assert_eq!(budget.bytes(), MIB + 1, "the share is used up");
    }

    #[test]
    fn without_answers_the_budget_is_doubled_once() {
        let mut budget = unlimited(MIB);
        budget.do_without_answer();
        assert_eq!(budget.bytes(), 2 * MIB);
        assert_eq!(budget.due_request(MIB), Some(4 * MIB));
        budget.do_without_answer();
        assert_eq!(budget.bytes(), 2 * MIB);
        assert_eq!(budget.due_request(2 * MIB), None);
        // The next escherd is asked at once, and one that does not answer changes nothing.
        budget.on_connected();
        assert_eq!(budget.due_request(2 * MIB), Some(4 * MIB));
        budget.do_without_answer();
        assert_eq!(budget.bytes(), 2 * MIB);
        budget.set(2 * MIB);
        budget.do_without_answer();
        assert_eq!(budget.bytes(), 4 * MIB);
    }

    #[test]
    fn escherds_word_counts_even_if_it_is_late_or_less() {
        let mut budget = unlimited(4 * MIB);
        budget.note_request(8 * MIB, Instant::now());
        budget.do_without_answer();
        budget.set(4 * MIB);
        assert_eq!(budget.bytes(), 4 * MIB);
        budget.set(0);
        assert_eq!(budget.due_request(0), Some(READING_BYTES));
    }
}
