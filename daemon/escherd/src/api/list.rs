//! Lists: what the engine has and what the store has, as one.

use std::collections::VecDeque;

use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ExecutionRecord};

use super::ExecutionEngine;
use crate::execution::listed;
use crate::scheduler::Listed;

/// Records that are taken at once.
const PAGE: usize = 256;

/// Executions, newest first, their commands cut where they are long.
#[derive(Debug)]
pub struct Executions {
    engine: ExecutionEngine,
    selection: Selection,
    /// How many more may be given.
    left: usize,
    recent: Source,
    old: Source,
    /// What the engine has had, taken before the store was asked: what leaves memory in between is in one of
    /// the two, and what is in both is given once.
    known: Vec<u64>,
}

/// Records of one of the two, newest first, taken page by page.
#[derive(Debug)]
struct Source {
    page: VecDeque<ExecutionRecord>,
    /// The next page is below this number.
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

    fn needs_more(&self) -> bool {
        self.page.is_empty() && !self.is_exhausted
    }

    fn head(&self) -> Option<u64> {
        self.page.front().map(|record| record.number)
    }

    /// Takes the page that was asked for, less what is not wanted of it.
    fn take(
        &mut self,
        page: Vec<ExecutionRecord>,
        is_wanted: impl FnMut(&ExecutionRecord) -> bool,
    ) {
        self.before = page.last().map_or(0, |record| record.number);
        self.is_exhausted = page.is_empty();
        self.page = page.into_iter().filter(is_wanted).collect();
    }
}

impl ExecutionEngine {
    /// Lists this user's executions that match: a
    /// [`ListFilter`](escher_protocol::message::ListFilter), or a [`Selection`], which has times of
    /// submission too.
    pub fn list_executions(&self, selection: impl Into<Selection>) -> Executions {
        let selection = selection.into();
        Executions {
            engine: self.clone(),
            left: match selection.filter.limit {
                0 => usize::MAX,
                limit => limit as usize,
            },
            selection,
            recent: Source::new(),
            old: Source::new(),
            known: Vec::new(),
        }
    }
}

impl Executions {
    /// The next one; `None` at the end. An error is the last that it gives.
    pub async fn next(&mut self) -> Option<Result<ExecutionRecord, ApiError>> {
        if self.left == 0 {
            return None;
        }
        let next = self.advance().await;
        self.left = match next {
            Ok(Some(_)) => self.left - 1,
            _ => 0,
        };
        next.transpose()
    }

    async fn advance(&mut self) -> Result<Option<ExecutionRecord>, ApiError> {
        let room = self.left.min(PAGE);
        if self.recent.needs_more() {
            let page = self.recent_page(room).await?;
            self.recent.take(page.records, |_| true);
            if self.known.is_empty() {
                self.known = page.known;
            }
        }
        while self.old.needs_more() {
            let page = self.old_page(room).await?;
            let known = &self.known;
            let is_unknown =
                |record: &ExecutionRecord| known.binary_search(&record.number).is_err();
            self.old.take(page, is_unknown);
        }
        Ok(match (self.recent.head(), self.old.head()) {
            (None, None) => None,
            (Some(number), other) if other.is_none_or(|other| number > other) => {
                self.recent.page.pop_front()
            }
            _ => self.old.page.pop_front().map(listed),
        })
    }

    async fn recent_page(&self, room: usize) -> Result<Listed, ApiError> {
        let (selection, before) = (self.selection.clone(), self.recent.before);
        self.engine
            .ask(move |engine, scope| engine.list(scope, &selection, before, room))
            .await
    }

    async fn old_page(&self, room: usize) -> Result<Vec<ExecutionRecord>, ApiError> {
        let (of, selection) = (self.engine.scope.submitter(), self.selection.clone());
        let store = &self.engine.core.store;
        store.list(of, selection, self.old.before, room).await
    }
}
