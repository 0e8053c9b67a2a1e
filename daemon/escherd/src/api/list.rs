//! Lists of executions, merged from those in the scheduler and those in the store.

use std::ops::Range;

use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ExecutionRecord};

use super::ExecutionEngine;
use super::merge::{Merge, MergeStep};
use crate::scheduler::Listed;
use crate::store::HistoryPage;

/// Maximum number of records that are copied from a source at once.
const MAX_PAGE_RECORDS: usize = 256;

/// The records of the listed executions, newest first. Long commands are shortened in them.
#[derive(Debug)]
pub struct Executions {
    engine: ExecutionEngine,
    selection: Selection,
    /// Whether the selection may be carried out.
    is_checked: bool,
    /// How many more records the limit allows.
    remaining: usize,
    merge: Merge,
}

impl ExecutionEngine {
    /// Lists this user's executions that match `selection`: a
    /// [`ListFilter`](escher_protocol::message::ListFilter), or a [`Selection`], which limits the
    /// times of submission, too.
    pub fn list_executions(&self, selection: impl Into<Selection>) -> Executions {
        Executions {
            is_checked: false,
            ..Executions::of_checked(self, selection.into())
        }
    }
}

impl Executions {
    /// Lists executions by a selection that needs no further check.
    pub(super) fn of_checked(engine: &ExecutionEngine, selection: Selection) -> Self {
        Executions {
            engine: engine.clone(),
            remaining: match selection.filter.limit {
                0 => usize::MAX,
                limit => limit as usize,
            },
            selection,
            is_checked: true,
            merge: Merge::below(u64::MAX),
        }
    }

    /// Leaves out the executions with this number or a higher one.
    pub(crate) fn below(mut self, number: u64) -> Self {
        self.merge = Merge::below(number);
        self
    }

    /// Returns the next record; `None` at the end. Nothing comes after an error, which is
    /// `invalid-request` for a filter that is over a limit, `unknown-user` for one that names nobody,
    /// `internal` or `shutting-down`.
    pub async fn next(&mut self) -> Option<Result<ExecutionRecord, ApiError>> {
        if self.remaining == 0 {
            return None;
        }
        let next = self.check_and_advance().await;
        self.remaining = match next {
            Ok(Some(_)) => self.remaining - 1,
            _ => 0,
        };
        next.transpose()
    }

    /// Returns whether the next record has to be read into memory first.
    pub(crate) fn must_read(&self) -> bool {
        self.remaining > 0 && self.merge.must_read()
    }

    async fn check_and_advance(&mut self) -> Result<Option<ExecutionRecord>, ApiError> {
        if !self.is_checked {
            self.engine.ensure_selectable(&self.selection).await?;
            self.is_checked = true;
        }
        self.advance().await
    }

    /// Returns the next record, regardless of the limit.
    pub(super) async fn advance(&mut self) -> Result<Option<ExecutionRecord>, ApiError> {
        let limit = self.remaining.min(MAX_PAGE_RECORDS);
        // Each page takes a bounded amount of work, and may be empty.
        loop {
            match self.merge.next_step() {
                MergeStep::ReadMemory { before } => {
                    let page = self.page_in_memory(before, limit).await?;
                    self.merge.add_page_in_memory(before, page);
                }
                MergeStep::ReadStore { range } => {
                    let page = self.page_in_store(range, limit).await?;
                    self.merge.add_page_in_store(page);
                }
                MergeStep::Take(record) => return Ok(Some(*record)),
                MergeStep::End => return Ok(None),
            }
        }
    }

    async fn page_in_memory(&self, before: u64, limit: usize) -> Result<Listed, ApiError> {
        let selection = self.selection.clone();
        self.engine
            .call(move |scheduler, scope| scheduler.list(scope, &selection, before, limit))
            .await
    }

    async fn page_in_store(
        &self,
        range: Range<u64>,
        limit: usize,
    ) -> Result<HistoryPage<ExecutionRecord>, ApiError> {
        let submitter = self.engine.scope.submitter().cloned();
        let selection = self.selection.clone();
        let store = &self.engine.core.store;
        store.list(submitter, selection, range, limit).await
    }
}
