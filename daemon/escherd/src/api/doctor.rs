//! Whether the engine is well.

use std::time::Duration;

use escher_protocol::{ApiError, Diagnostic, ErrorCode};

use super::ExecutionEngine;
use crate::doctor::{self, Audience, Subject};
use crate::scheduler::Scheduler;

/// How long the store may take to have everything on disk. It takes milliseconds where it can.
const PATIENCE: Duration = Duration::from_secs(2);

impl ExecutionEngine {
    /// Looks at what the engine stands on (launcher, directories, store, limits, kernel) and says how it found each,
    /// with what to do about it. Where this engine is not for root or its own user, without what could tell secrets.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn diagnose(&self) -> Result<Vec<Diagnostic>, ApiError> {
        let look = |engine: &mut Scheduler| (engine.counts(), engine.longest_wait());
        let (counts, longest_wait) = self.core.engine.call(look).await?;
        let store = &self.core.store;
        let (history_size, flushed) = tokio::join!(store.history_size(), store.flush(PATIENCE));
        let subject = Subject {
            config: self.core.config.clone(),
            settings: self.settings(),
            launcher: self.core.launcher.borrow().clone(),
            counts,
            longest_wait,
            budget: self.budget(),
            wanted_connections: self.core.shares.wanted_connections(),
            history_size,
            flushed,
        };
        let audience = self.audience();
        // Off the event loop: disks may be slow to answer.
        let examined = tokio::task::spawn_blocking(move || doctor::engine(&subject, audience));
        let internal =
            |error: tokio::task::JoinError| ApiError::new(ErrorCode::INTERNAL, error.to_string());
        examined.await.map_err(internal)
    }

    /// How much the user of this engine may be told.
    pub(crate) fn audience(&self) -> Audience {
        Audience::from_permit(self.administer().ok().as_ref())
    }
}
