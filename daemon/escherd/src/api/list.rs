//! Lists of executions, merged from those in the scheduler and those in the store.

use std::collections::VecDeque;

use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ExecutionRecord};

use super::ExecutionEngine;
use crate::execution::check_selection;
use crate::scheduler::Listed;
use crate::store::HistoryPage;

/// Maximum number of records that are copied from a source at once.
const MAX_PAGE_RECORDS: usize = 256;

/// The records of the listed executions, newest first. Long commands are shortened in them.
#[derive(Debug)]
pub struct Executions {
    engine: ExecutionEngine,
    selection: Selection,
    /// Whether the selection is within the limits.
    is_checked: bool,
    /// How many more records the limit allows.
    remaining: usize,
    in_memory: Source,
    in_store: Source,
    /// Numbers of all executions in memory, taken before the store is read. So an execution that
    /// leaves memory in between is in at least one of the sources; one in both is listed once,
    /// because the store's record of an execution in memory is skipped.
    numbers_in_memory: Vec<u64>,
}

/// The records of one source, newest first, read page by page.
#[derive(Debug)]
struct Source {
    page: VecDeque<ExecutionRecord>,
    /// The next page has executions with lower numbers than this; `None`: there is none.
    before: Option<u64>,
}

impl Source {
    fn new() -> Self {
        Source {
            page: VecDeque::new(),
            before: Some(u64::MAX),
        }
    }

    /// Returns where the page begins that has to be read next, if one has to be.
    fn needed_page(&self) -> Option<u64> {
        self.before.filter(|_| self.page.is_empty())
    }

    /// Returns the number of the next record.
    fn head(&self) -> Option<u64> {
        self.page.front().map(|record| record.number)
    }

    /// Stores the next page, and where the one after it begins.
    fn set_page(&mut self, page: impl IntoIterator<Item = ExecutionRecord>, before: Option<u64>) {
        self.page = page.into_iter().collect();
        self.before = before;
    }
}

impl ExecutionEngine {
    /// Lists this user's executions that match `selection`: a
    /// [`ListFilter`](escher_protocol::message::ListFilter), or a [`Selection`], which limits the
    /// times of submission, too.
    pub fn list_executions(&self, selection: impl Into<Selection>) -> Executions {
        let selection = selection.into();
        Executions {
            engine: self.clone(),
            remaining: match selection.filter.limit {
                0 => usize::MAX,
                limit => limit as usize,
            },
            selection,
            is_checked: false,
            in_memory: Source::new(),
            in_store: Source::new(),
            numbers_in_memory: Vec::new(),
        }
    }
}

impl Executions {
    /// Returns the next record; `None` at the end. Nothing comes after an error, which is
    /// `invalid-request` for a filter that is over a limit, `internal` or `shutting-down`.
    pub async fn next(&mut self) -> Option<Result<ExecutionRecord, ApiError>> {
        if self.remaining == 0 {
            return None;
        }
        let next = self.advance().await;
        self.remaining = match next {
            Ok(Some(_)) => self.remaining - 1,
            _ => 0,
        };
        next.transpose()
    }

    async fn advance(&mut self) -> Result<Option<ExecutionRecord>, ApiError> {
        if !self.is_checked {
            check_selection(&self.selection)?;
            self.is_checked = true;
        }
        let limit = self.remaining.min(MAX_PAGE_RECORDS);
        // Each page takes a bounded amount of work, and may be empty.
        while let Some(before) = self.in_memory.needed_page() {
            let page = self.page_in_memory(before, limit).await?;
            self.in_memory.set_page(page.records, page.next);
            if self.numbers_in_memory.is_empty() {
                self.numbers_in_memory = page.known;
            }
        }
        while let Some(before) = self.in_store.needed_page() {
            let page = self.page_in_store(before, limit).await?;
            let in_memory = &self.numbers_in_memory;
            let is_not_in_memory =
                |record: &ExecutionRecord| in_memory.binary_search(&record.number).is_err();
            let records = page.found.into_iter().filter(is_not_in_memory);
            self.in_store.set_page(records, page.next);
        }
        Ok(match (self.in_memory.head(), self.in_store.head()) {
            (None, None) => None,
            (Some(number), other) if other.is_none_or(|other| number > other) => {
                self.in_memory.page.pop_front()
            }
            _ => self.in_store.page.pop_front(),
        })
    }

    async fn page_in_memory(&self, before: u64, limit: usize) -> Result<Listed, ApiError> {
        let selection = self.selection.clone();
        self.engine
            .call(move |scheduler, scope| scheduler.list(scope, &selection, before, limit))
            .await
    }

    async fn page_in_store(
        &self,
        before: u64,
        limit: usize,
    ) -> Result<HistoryPage<ExecutionRecord>, ApiError> {
        let (submitter, selection) = (self.engine.scope.submitter(), self.selection.clone());
        let store = &self.engine.core.store;
        store.list(submitter, selection, before, limit).await
    }
}
