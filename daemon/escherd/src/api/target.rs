//! Acting on the execution that a target names.
//!
//! The scheduler has the executions that are not finished, and those that finished lately; the
//! store has the others. Finding an execution in the scheduler and acting on it is one step there,
//! so that the execution cannot leave memory in between.
//!
//! A bare name means one of the caller's own executions, for root too. Otherwise another user could choose which
//! execution root waits for or ends. Another user's has the user's name or uid in front: `alice/nightly`.

use escher_protocol::id::{NEWEST, NEWEST_FAILED};
use escher_protocol::{ApiError, ErrorCode, ExecutionRecord, RunAs, Status, Target};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::execution::check_target;
use crate::scheduler::Scheduler;
use crate::store::{LookupScope, StoredExecution};

/// What came of an action on the execution that a target names.
pub(super) enum ActionResult<R> {
    /// The scheduler has the execution and has done the action, with this result.
    Done(R),
    /// The store alone has the execution, which is finished; nothing was done.
    OnlyInStore(Box<ExecutionRecord>),
}

impl ExecutionEngine {
    /// Has the scheduler do `action` on the execution that `target` names, if the scheduler has it;
    /// otherwise returns the store's record.
    ///
    /// # Errors
    /// `not-found` and `ambiguous`; `invalid-request` for a reference that is too long; `unknown-user`
    /// for root; `internal` if the store or the user database cannot be read; `shutting-down`.
    pub(super) async fn act_on<R: Send + 'static>(
        &self,
        target: Target,
        action: impl FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    ) -> Result<ActionResult<R>, ApiError> {
        check_target(&target)?;
        let target = match newest(&target) {
            Some(newest) => self.find_newest(newest).await?.ok_or_else(|| {
                let message = format!("you have no execution that {target} means");
                ApiError::new(ErrorCode::NOT_FOUND, message)
                    .with_hint("escherctl ps -a lists the executions that you may see")
            })?,
            None => target,
        };
        let (target, action) = match self.try_in_scheduler(target, action).await? {
            Ok(result) => return Ok(ActionResult::Done(result)),
            Err(not_done) => not_done,
        };
        let found = self.find_in_store(&target).await?;
        let found = found.ok_or_else(|| self.not_found(&target))?;
        if let Some(record) = found.record {
            return Ok(ActionResult::OnlyInStore(record));
        }
        // A name or a part of an id that belongs to an unfinished execution.
        match self.try_in_scheduler(found.id.into(), action).await? {
            Ok(result) => Ok(ActionResult::Done(result)),
            // It has ended and left memory in the meantime.
            Err((id, _)) => {
                let found = self.find_in_store(&id).await?;
                let record = found.and_then(|found| found.record);
                let record = record.ok_or_else(|| self.not_found(&target))?;
                Ok(ActionResult::OnlyInStore(record))
            }
        }
    }

    /// Returns the newest of the caller's own executions, by its id.
    async fn find_newest(&self, newest: Newest) -> Result<Option<Target>, ApiError> {
        let (in_memory, ended) = match newest {
            Newest::Any => {
                let own = |scheduler: &mut Scheduler, scope: &Scope| scheduler.newest_own(scope);
                let ended = Status::TABLE.map(|row| row.0).to_vec();
                (self.call(own).await?, ended)
            }
            Newest::Failed => (None, vec![Status::Failed]),
        };
        let owner = self.scope.caller().clone();
        let in_store = self.core.store.find_newest(owner, ended).await?;
        Ok(in_memory.max(in_store).map(|(_, id)| id.into()))
    }

    async fn find_in_store(&self, target: &Target) -> Result<Option<StoredExecution>, ApiError> {
        let store = &self.core.store;
        if let Some((user, name)) = user_and_name(target) {
            let authorizer = &self.core.authorizer;
            return match authorizer.visible_user(&self.caller, &user).await? {
                Some(owner) => store.find_named(owner, name).await,
                None => Ok(None),
            };
        }
        let scope = LookupScope {
            submitter: self.scope.submitter().cloned(),
            names_of: Some(self.scope.caller().clone()),
        };
        store.find(scope, target).await
    }

    fn not_found(&self, target: &Target) -> ApiError {
        let message = format!("there is no execution {:?}", target.to_string());
        let hint = match self.scope.submitter() {
            Some(_) => "escherctl ps -a lists yours",
            None => "escherctl ps -a lists all; another user's name is USER/NAME",
        };
        ApiError::new(ErrorCode::NOT_FOUND, message).with_hint(hint)
    }

    /// Returns the result of `action`, or both arguments if the scheduler does not have the
    /// execution.
    async fn try_in_scheduler<R, A>(
        &self,
        target: Target,
        action: A,
    ) -> Result<Result<R, (Target, A)>, ApiError>
    where
        R: Send + 'static,
        A: FnOnce(&mut Scheduler, u64) -> R + Send + 'static,
    {
        self.call(move |scheduler: &mut Scheduler, scope: &Scope| {
            match scheduler.find(scope, &target) {
                Some(number) => Ok(action(scheduler, number)),
                None => Err((target, action)),
            }
        })
        .await
    }
}

/// Which of the caller's own executions a reference means by its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    Any,
    Failed,
}

fn newest(target: &Target) -> Option<Newest> {
    match target {
        Target::Reference(text) if **text == *NEWEST => Some(Newest::Any),
        Target::Reference(text) if **text == *NEWEST_FAILED => Some(Newest::Failed),
        Target::Reference(_) | Target::Id(_) => None,
    }
}

/// Parses a reference such as `alice/nightly` or `1000/nightly`. Names have no slash.
fn user_and_name(target: &Target) -> Option<(RunAs, &str)> {
    let Target::Reference(text) = target else {
        return None;
    };
    let (user, name) = text.split_once('/')?;
    let is_uid = user.bytes().all(|byte| byte.is_ascii_digit());
    let user = match user.parse() {
        Ok(uid) if is_uid => RunAs::Uid(uid),
        _ => RunAs::Name(user.into()),
    };
    Some((user, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_with_a_slash_is_a_users_name_or_uid_and_a_name() {
        let name_of = |user: &str| RunAs::Name(user.into());
        for (text, expected) in [
            ("alice/nightly", Some((name_of("alice"), "nightly"))),
            ("1000/nightly", Some((RunAs::Uid(1000), "nightly"))),
            ("0/a/b", Some((RunAs::Uid(0), "a/b"))),
            ("4294967296/n", Some((name_of("4294967296"), "n"))),
            ("+1/n", Some((name_of("+1"), "n"))),
            ("/n", Some((name_of(""), "n"))),
            ("nightly", None),
            ("17", None),
        ] {
            assert_eq!(user_and_name(&text.into()), expected, "{text}");
        }
    }
}
