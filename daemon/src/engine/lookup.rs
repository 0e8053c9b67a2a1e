//! Finding executions: by what people call them, and by filters.

use escher_protocol::id::MIN_FRAGMENT_DIGITS;
use escher_protocol::message::ListFilter;
use escher_protocol::{ApiError, ErrorCode, ExecutionId, Target};

use super::{Engine, Entry};
use crate::authz::Scope;
use crate::execution::Execution;

/// Most candidates that an error names.
const MAX_CANDIDATES: usize = 8;

impl Engine {
    /// The execution that `target` means to a caller with `scope`. One outside the scope is not there.
    pub(super) fn entry(&self, scope: &Scope, target: &Target) -> Result<(u64, &Entry), ApiError> {
        let number = self.number_of(scope, target)?;
        let entry = self.entries.get(&number);
        entry
            .map(|entry| (number, entry))
            .ok_or_else(|| not_found(target))
    }

    /// As [`Engine::entry`], to change it.
    pub(super) fn entry_mut(
        &mut self,
        scope: &Scope,
        target: &Target,
    ) -> Result<(u64, &mut Entry), ApiError> {
        let number = self.number_of(scope, target)?;
        let entry = self.entries.get_mut(&number);
        entry
            .map(|entry| (number, entry))
            .ok_or_else(|| not_found(target))
    }

    fn number_of(&self, scope: &Scope, target: &Target) -> Result<u64, ApiError> {
        let found = match target {
            Target::Id(id) => self.by_id(scope, *id),
            Target::Reference(text) => match self.by_exact(scope, text) {
                None => self.by_fragment(scope, text)?,
                found => found,
            },
        };
        found.ok_or_else(|| not_found(target))
    }

    fn by_id(&self, scope: &Scope, id: ExecutionId) -> Option<u64> {
        self.visible(scope, *self.numbers.get(&id)?)
    }

    fn visible(&self, scope: &Scope, number: u64) -> Option<u64> {
        let entry = self.entries.get(&number)?;
        scope.includes(&entry.execution.submitter).then_some(number)
    }

    /// A number, a full UUID, or a name (the newest execution that bears it).
    fn by_exact(&self, scope: &Scope, text: &str) -> Option<u64> {
        let number = text.parse().ok();
        let number = number.and_then(|number| self.visible(scope, number));
        let id = || text.parse().ok().and_then(|id| self.by_id(scope, id));
        let named = || {
            let mut newest_first = self.visible_executions(scope).rev();
            let named =
                newest_first.find(|execution| execution.request.name.as_deref() == Some(text));
            named.map(|execution| execution.number)
        };
        number.or_else(id).or_else(named)
    }

    /// The head or tail of a UUID that no other execution in `scope` has.
    fn by_fragment(&self, scope: &Scope, text: &str) -> Result<Option<u64>, ApiError> {
        let is_digit = |byte: u8| byte.is_ascii_hexdigit();
        let digits = text.bytes().filter(|byte| is_digit(*byte)).count();
        let is_fragment = text.bytes().all(|byte| is_digit(byte) || byte == b'-');
        if !is_fragment || digits < MIN_FRAGMENT_DIGITS {
            return Ok(None);
        }
        let text = text.to_ascii_lowercase();
        let fits = |execution: &&Execution| {
            let id = execution.id.to_string();
            id.starts_with(&text) || id.ends_with(&text)
        };
        let mut candidates = self.visible_executions(scope).filter(fits);
        match (candidates.next(), candidates.next()) {
            (None, _) => Ok(None),
            (Some(only), None) => Ok(Some(only.number)),
            (Some(first), Some(second)) => {
                let named: Vec<String> = [first, second]
                    .into_iter()
                    .chain(candidates)
                    .take(MAX_CANDIDATES)
                    .map(|execution| format!("{} ({})", execution.number, execution.id))
                    .collect();
                let message = format!("{text:?} fits several executions: {}", named.join(", "));
                Err(ApiError::new(ErrorCode::AMBIGUOUS, message)
                    .with_hint("use the number, or more digits"))
            }
        }
    }

    fn visible_executions<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl DoubleEndedIterator<Item = &'a Execution> {
        let executions = self.entries.values().map(|entry| &entry.execution);
        executions.filter(|execution| scope.includes(&execution.submitter))
    }
}

fn not_found(target: &Target) -> ApiError {
    let message = format!("there is no execution {:?}", target.to_string());
    ApiError::new(ErrorCode::NOT_FOUND, message).with_hint("escherctl ps -a lists yours")
}

/// Whether `filter` lets `execution` through. Its limit is the list's business.
pub(super) fn matches(execution: &Execution, filter: &ListFilter) -> bool {
    let status = execution.state.status();
    let of_status = match filter.statuses.is_empty() {
        true => filter.all || !status.is_finished(),
        false => filter.statuses.contains(&status),
    };
    let request = &execution.request;
    let named = filter.name.is_none() || request.name == filter.name;
    let of_user = filter.user.as_ref().is_none_or(|user| {
        let account = &execution.account.user;
        account.name.as_ref() == Some(user) || account.uid.to_string() == **user
    });
    let mut labels = filter.labels.iter();
    of_status && named && of_user && labels.all(|label| request.labels.contains(label))
}
