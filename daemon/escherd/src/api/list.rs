//! Lists of executions, merged from those in the scheduler and those in the store.

use std::collections::VecDeque;

use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ExecutionRecord};

use super::ExecutionEngine;
use crate::execution::{PageLimit, listed};
use crate::scheduler::Listed;

/// Limit on the records that are copied from a source at once.
const PAGE_LIMIT: PageLimit = PageLimit {
    records: 256,
    bytes: 64 * 1024,
};

/// The records of the listed executions, newest first. Long commands are shortened in them.
#[derive(Debug)]
pub struct Executions {
    engine: ExecutionEngine,
    selection: Selection,
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
    /// The next page has executions with lower numbers than this.
    before: u64,
    is_exhausted: bool,
}

impl Source {
    fn new() -> Self {
        Source {
            page: VecDeque::new(),
            before: u64::MAX,
            is_exhausted: false,
        }
    }

    fn needs_page(&self) -> bool {
        self.page.is_empty() && !self.is_exhausted
    }

    /// Returns the number of the next record.
    fn head(&self) -> Option<u64> {
        self.page.front().map(|record| record.number)
    }

    /// Stores the next page, without the records that `keep` rejects.
    fn set_page(&mut self, page: Vec<ExecutionRecord>, keep: impl FnMut(&ExecutionRecord) -> bool) {
        self.before = page.last().map_or(0, |record| record.number);
        self.is_exhausted = page.is_empty();
        self.page = page.into_iter().filter(keep).collect();
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
            in_memory: Source::new(),
            in_store: Source::new(),
            numbers_in_memory: Vec::new(),
        }
    }
}

impl Executions {
    /// Returns the next record; `None` at the end. Nothing comes after an error.
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

    /// Returns whether the next record has to be read into memory first.
    pub(crate) fn must_read(&self) -> bool {
        self.remaining > 0 && (self.in_memory.needs_page() || self.in_store.needs_page())
    }

    async fn advance(&mut self) -> Result<Option<ExecutionRecord>, ApiError> {
        let limit = PageLimit {
            records: self.remaining.min(PAGE_LIMIT.records),
            ..PAGE_LIMIT
        };
        if self.in_memory.needs_page() {
            let page = self.page_in_memory(limit).await?;
            self.in_memory.set_page(page.records, |_| true);
            if self.numbers_in_memory.is_empty() {
                self.numbers_in_memory = page.known;
            }
        }
        while self.in_store.needs_page() {
            let page = self.page_in_store(limit).await?;
            let in_memory = &self.numbers_in_memory;
            let is_not_in_memory =
                |record: &ExecutionRecord| in_memory.binary_search(&record.number).is_err();
            self.in_store.set_page(page, is_not_in_memory);
        }
        Ok(match (self.in_memory.head(), self.in_store.head()) {
            (None, None) => None,
            (Some(number), other) if other.is_none_or(|other| number > other) => {
                self.in_memory.page.pop_front()
            }
            _ => self.in_store.page.pop_front().map(listed),
        })
    }

    async fn page_in_memory(&self, limit: PageLimit) -> Result<Listed, ApiError> {
        let (selection, before) = (self.selection.clone(), self.in_memory.before);
        self.engine
            .call(move |scheduler, scope| scheduler.list(scope, &selection, before, limit))
            .await
    }

    async fn page_in_store(&self, limit: PageLimit) -> Result<Vec<ExecutionRecord>, ApiError> {
        let (submitter, selection) = (self.engine.scope.submitter(), self.selection.clone());
        let store = &self.engine.core.store;
        store
            .list(submitter, selection, self.in_store.before, limit)
            .await
    }
}
