//! What users take of the queue and the slots, and may take.

use escher_protocol::message::Quota;
use escher_protocol::{ApiError, ErrorCode, RunAs};

use super::ExecutionEngine;

impl ExecutionEngine {
    /// Returns what a user takes of the queue and the slots, and may take. `None`: the engine's own user; for root, all
    /// users who take anything, and root.
    ///
    /// # Errors
    /// `permission-denied` for another user, unless this one is root; `unknown-user`; `shutting-down`.
    pub async fn quota(&self, user: Option<RunAs>) -> Result<Vec<Quota>, ApiError> {
        let is_of_all = user.is_none() && self.scope.submitter().is_none();
        let user = user.unwrap_or(RunAs::Caller);
        let authorizer = &self.core.authorizer;
        let Some(user) = authorizer.visible_user(&self.caller, &user).await? else {
            let message = format!("{} may see its own quota alone", self.caller.user());
            return Err(ApiError::new(ErrorCode::PERMISSION_DENIED, message)
                .with_hint("omit --user, or run escherctl as root"));
        };
        self.call(move |scheduler, _| {
            if is_of_all {
                scheduler.quotas(user)
            } else {
                vec![scheduler.quota(user)]
            }
        })
        .await
    }
}
