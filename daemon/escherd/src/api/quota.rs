//! What users take of the queue, the slots and the history, and may take.

use std::collections::BTreeMap;

use escher_protocol::message::{HistoryQuota, Quota};
use escher_protocol::{ApiError, ErrorCode, RunAs, User};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::scheduler::Scheduler;
use crate::store::{HistoryLimits, HistorySize, share};

impl ExecutionEngine {
    /// Returns what a user takes of the queue, the slots and the history, and may take. `None`: the engine's own user;
    /// for root, all users who take anything, and root.
    ///
    /// # Errors
    /// `permission-denied` for another user, unless this one is root; `unknown-user`; `internal` if the store cannot be
    /// read; `shutting-down`.
    pub async fn quota(&self, user: Option<RunAs>) -> Result<Vec<Quota>, ApiError> {
        let is_of_all = user.is_none() && self.scope.submitter().is_none();
        let user = user.unwrap_or(RunAs::Caller);
        let authorizer = &self.core.authorizer;
        let Some(user) = authorizer.visible_user(&self.caller, &user).await? else {
            let message = format!("{} may see its own quota alone", self.caller.user());
            return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
                .with_hint("omit --user, or run escherctl as root"));
        };
        let history = self.core.store.user_history().await?;
        let also: Vec<User> = if is_of_all {
            history.keys().cloned().collect()
        } else {
            Vec::new()
        };
        let query = move |scheduler: &mut Scheduler, _: &Scope| {
            if is_of_all {
                scheduler.quotas(also.into_iter().chain([user]))
            } else {
                vec![scheduler.quota(user)]
            }
        };
        let mut quotas = self.call(query).await?;
        let limits = self.settings().cleanup.limits;
        for quota in &mut quotas {
            quota.history = history_quota(&quota.user, &history, limits);
        }
        Ok(quotas)
    }
}

/// Returns what `user` has in the history, and its shares: those that it would have with its first execution or
/// log, if it has none.
fn history_quota(
    user: &User,
    history: &BTreeMap<User, HistorySize>,
    limits: HistoryLimits,
) -> HistoryQuota {
    let own = history.get(user).copied().unwrap_or_default();
    let share_of = |limit: u64, amount: fn(&HistorySize) -> u64| {
        let others = history
            .iter()
            .filter(|(other, size)| *other != user && amount(size) > 0);
        share(limit, 1 + others.count() as u64)
    };
    HistoryQuota {
        finished: own.executions,
        finished_share: share_of(limits.max_count, |size| size.executions),
        log_bytes: own.log_bytes,
        log_bytes_share: share_of(limits.max_bytes, |size| size.log_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    #[test]
    fn a_share_is_the_limit_divided_by_those_who_have_something() {
        let limits = HistoryLimits {
            max_age_secs: 0,
            max_bytes: 1000,
            max_count: 30,
            min_age: Duration::ZERO,
        };
        let size = |executions, log_bytes| HistorySize {
            executions,
            log_bytes,
        };
        let user = |uid, name: &str| User {
            uid,
            name: Some(name.into()),
        };
        let history = BTreeMap::from([
            (user(1, "alice"), size(20, 0)),
            (user(2, "bob"), size(5, 700)),
        ]);
        for (user, finished, finished_share, log_bytes, log_bytes_share) in [
            (user(1, "alice"), 20, 15, 0, 500),
            (user(2, "bob"), 5, 15, 700, 1000),
            (user(3, "carol"), 0, 10, 0, 500),
            // The next owner of a uid.
            (user(2, "carol"), 0, 10, 0, 500),
        ] {
            let expected = HistoryQuota {
                finished,
                finished_share,
                log_bytes,
                log_bytes_share,
            };
            let found = history_quota(&user, &history, limits);
            assert_eq!(found, expected, "{user}");
        }
    }
}
