//! Lists: what the engine has and what the store has, as one.

use std::collections::VecDeque;

use escher_protocol::message::{Item, Selection};
use escher_protocol::{ApiError, ExecutionRecord};

use super::{Broken, Call, PAGE};
use crate::engine::Listed;
use crate::execution::listed;
use crate::server::outbox::Items;

/// Records of one of the two, newest first, taken page by page.
#[derive(Default)]
struct Source {
    page: VecDeque<ExecutionRecord>,
    is_exhausted: bool,
}

impl Source {
    fn needs_more(&self) -> bool {
        self.page.is_empty() && !self.is_exhausted
    }

    fn head(&self) -> Option<u64> {
        self.page.front().map(|record| record.number)
    }
}

impl Call<'_> {
    pub(super) async fn list(&self, selection: Selection, items: &Items<'_>) -> Result<(), Broken> {
        let mut left = match selection.filter.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let (mut recent, mut old) = (Source::default(), Source::default());
        let (mut recent_before, mut old_before) = (u64::MAX, u64::MAX);
        // What the engine has had, taken before the store is asked: what leaves memory in between is in
        // one of the two, and what is in both is told once.
        let mut known = Vec::new();
        while left > 0 {
            if recent.needs_more() {
                let page = self
                    .recent(&selection, recent_before, left.min(PAGE))
                    .await?;
                recent_before = page.records.last().map_or(0, |record| record.number);
                recent.is_exhausted = page.records.is_empty();
                recent.page = page.records.into();
                if known.is_empty() {
                    known = page.known;
                }
            }
            if old.needs_more() {
                let room = left.min(PAGE);
                let of = self.scope.submitter();
                let page = self
                    .service
                    .store
                    .list(of, selection.clone(), old_before, room)
                    .await?;
                old_before = page.last().map_or(0, |record| record.number);
                old.is_exhausted = page.is_empty();
                let unknown =
                    |record: &ExecutionRecord| known.binary_search(&record.number).is_err();
                old.page = page.into_iter().filter(unknown).collect();
                if old.needs_more() {
                    continue;
                }
            }
            let next = match (recent.head(), old.head()) {
                (None, None) if recent.is_exhausted && old.is_exhausted => break,
                (None, None) => continue,
                (Some(number), other) if other.is_none_or(|other| number > other) => {
                    recent.page.pop_front()
                }
                _ => old.page.pop_front().map(listed),
            };
            if let Some(record) = next {
                items.send(Item::Execution(Box::new(record))).await?;
                left -= 1;
            }
        }
        Ok(())
    }

    async fn recent(
        &self,
        selection: &Selection,
        before: u64,
        room: usize,
    ) -> Result<Listed, ApiError> {
        let selection = selection.clone();
        self.engine(move |engine, scope| engine.list(scope, &selection, before, room))
            .await
    }
}
