//! Selections that are checked before they are carried out.

use escher_protocol::message::{Condition, ListFilter, Property, Selection};
use escher_protocol::{ApiError, ErrorCode};

use super::ExecutionEngine;
use super::list::Executions;
use crate::execution::{Matcher, check_selection};

impl ExecutionEngine {
    /// Checks that a selection is within its limits and names users that exist, so that a typing error is
    /// not taken for a user who has no executions.
    ///
    /// # Errors
    /// `invalid-request`; `unknown-user`; `internal` if the user database or the store cannot be read.
    pub(super) async fn ensure_selectable(&self, selection: &Selection) -> Result<(), ApiError> {
        check_selection(selection)?;
        for name in Matcher::new(selection).login_names() {
            let accounts = self.core.authorizer.accounts();
            match accounts.by_name(self.uid(), &name.into()).await {
                Ok(_) => {}
                Err(error) if error.code == ErrorCode::UNKNOWN_USER => {
                    if !self.has_executions_of(name).await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns whether there are executions of a user, whose account may have been deleted.
    async fn has_executions_of(&self, name: &str) -> Result<bool, ApiError> {
        let filter = ListFilter {
            all: true,
            conditions: vec![Condition::is(Property::User(name.into()))],
            limit: 1,
        };
        let mut executions = Executions::of_checked(self, filter.into());
        Ok(executions.advance().await?.is_some())
    }
}
