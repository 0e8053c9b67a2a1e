//! The limits of slots and queue: of the host, and of each user.

use escher_protocol::{ApiError, ErrorCode};

use crate::config::Percent;

/// The uid of root, for whom places are reserved beyond the limits of the host.
pub(super) const ROOT: u32 = 0;

/// How many executions may run and wait, of all users and of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(super) slots: SlotLimits,
    /// How many of the ordinary slots are for users who have none, as long as several users wait.
    pub(super) newcomer_slots: usize,
    /// Pending executions.
    pub(super) pending: QueueLimit,
    /// Bytes of their requests.
    pub(super) pending_bytes: QueueLimit,
}

/// How many executions may run at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotLimits {
    /// Slots for everybody; also the most that one user may have.
    pub(crate) ordinary: usize,
    /// Slots beyond them, for root.
    pub(crate) root: usize,
}

/// How much may be pending, of one measure: executions or bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimit {
    measure: Measure,
    /// For everybody.
    host: u64,
    /// The part of it that is for users who have nothing pending.
    newcomers: u64,
    /// Beyond it, for root.
    root: u64,
    /// For one user.
    user: u64,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Pending executions.
    Executions,
    /// Bytes of their requests.
    Bytes,
}

/// What users take of a [`QueueLimit`] at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueUse {
    /// The submitter.
    pub(super) own: u64,
    /// Root.
    pub(super) root: u64,
    /// All users together.
    pub(super) total: u64,
}

/// Why a submission is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueueRefusal {
    /// The submitter has reached its own limit.
    #[error("this user has {used} {} pending, and may have at most {limit} (users.queue_share){}", .measure.noun(), .measure.explain(*.more))]
    OverQuota {
        /// What is limited.
        measure: Measure,
        /// How much of it the submitter has.
        used: u64,
        /// How much this submission would add.
        more: u64,
        /// How much it may have.
        limit: u64,
    },
    /// All users together have filled the queue.
    #[error("the queue is full: {used} of at most {limit} {} are pending ({}){}", .measure.noun(), .measure.setting(), .measure.explain(*.more))]
    QueueFull {
        /// What is limited.
        measure: Measure,
        /// How much of it all users have.
        used: u64,
        /// How much this submission would add.
        more: u64,
        /// How much there may be for this submission to be accepted.
        limit: u64,
    },
}

impl Measure {
    fn noun(self) -> &'static str {
        match self {
            Measure::Executions => "executions",
            Measure::Bytes => "bytes of requests",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Measure::Executions => "max_pending_executions",
            Measure::Bytes => "max_pending_bytes",
        }
    }

    fn explain(self, more: u64) -> String {
        match self {
            Measure::Executions => String::new(),
            Measure::Bytes => format!("; this request has {more} bytes"),
        }
    }
}

impl From<QueueRefusal> for ApiError {
    fn from(refusal: QueueRefusal) -> Self {
        let (code, hint) = match refusal {
            QueueRefusal::OverQuota { .. } => (
                ErrorCode::OVER_QUOTA,
                "try again when some have started; `escherctl quota` shows limits and use",
            ),
            QueueRefusal::QueueFull { .. } => {
                (ErrorCode::QUEUE_FULL, "try again when some have started")
            }
        };
        ApiError::new(code, refusal.to_string()).with_hint(hint)
    }
}

impl Limits {
    /// Returns the limits for a host with these slots and a queue of `pending` executions whose requests have
    /// `pending_bytes` bytes. One user may take `queue_share` of the queue; `None`: there is only one user, to whom no
    /// share applies.
    pub(crate) fn new(
        slots: SlotLimits,
        pending: usize,
        pending_bytes: u64,
        queue_share: Option<Percent>,
    ) -> Self {
        Limits {
            slots,
            newcomer_slots: slots.ordinary / 10,
            pending: QueueLimit::new(Measure::Executions, pending as u64, queue_share),
            pending_bytes: QueueLimit::new(Measure::Bytes, pending_bytes, queue_share),
        }
    }
}

impl QueueLimit {
    fn new(measure: Measure, host: u64, share: Option<Percent>) -> Self {
        let Some(share) = share else {
            return QueueLimit {
                measure,
                host,
                newcomers: 0,
                root: 0,
                user: host,
            };
        };
        let tenth = (host / 10).max(1).min(host);
        // A queue of one place has nothing to reserve.
        let newcomers = tenth.min(host.saturating_sub(1));
        QueueLimit {
            measure,
            host,
            newcomers,
            root: tenth,
            user: share.of(host).min(host - newcomers),
        }
    }

    /// Returns the most that a user may have.
    pub(super) fn of_user(&self, uid: u32) -> u64 {
        if uid == ROOT {
            self.user.max(self.root)
        } else {
            self.user
        }
    }

    /// Checks that `more` may be added for the user `uid`.
    pub(super) fn check(&self, uid: u32, used: QueueUse, more: u64) -> Result<(), QueueRefusal> {
        let QueueUse { own, root, total } = used;
        let measure = self.measure;
        let wanted = own.saturating_add(more);
        let limit = self.of_user(uid);
        if wanted > limit && limit < self.host {
            return Err(QueueRefusal::OverQuota {
                measure,
                used: own,
                more,
                limit,
            });
        }
        let root_after = if uid == ROOT { wanted } else { root };
        if uid == ROOT && root_after <= self.root {
            return Ok(());
        }
        // What root has in its own places takes none of the others.
        let in_own_places = root_after.min(self.root);
        let limit = match own {
            0 => self.host,
            _ => self.host - self.newcomers,
        };
        if total.saturating_add(more) - in_own_places > limit {
            return Err(QueueRefusal::QueueFull {
                measure,
                used: total - root.min(self.root),
                more,
                limit,
            });
        }
        Ok(())
    }
}
