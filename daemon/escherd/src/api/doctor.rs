//! Diagnosing the engine.

use std::time::Duration;

use escher_protocol::{ApiError, Diagnostic, ErrorCode};

use super::ExecutionEngine;
use crate::authz::Scope;
use crate::blocking::Abandoned;
use crate::doctor::{self, Audience, EngineSnapshot};
use crate::host::service_manager::ServiceManager;
use crate::scheduler::Scheduler;

/// Timeout for the store to write all pending changes. That takes milliseconds unless something is
/// wrong.
const STORE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

impl ExecutionEngine {
    /// Checks what the engine depends on (launcher, directories, store, limits, kernel) and returns
    /// the results with advice. Details that could reveal secrets are left out unless this engine
    /// acts for root or its own user.
    ///
    /// # Errors
    /// `shutting-down`.
    pub async fn diagnose(&self) -> Result<Vec<Diagnostic>, ApiError> {
        let query =
            |scheduler: &mut Scheduler, _: &Scope| (scheduler.counts(), scheduler.longest_wait());
        let (counts, longest_wait) = self.call(query).await?;
        let store = &self.core.store;
        let (history_size, flushed) =
            tokio::join!(store.history_size(), store.flush(STORE_FLUSH_TIMEOUT));
        let snapshot = EngineSnapshot {
            settings_at_start: self.core.settings_at_start.clone(),
            settings_in_force: self.settings(),
            launcher: self.core.launcher.borrow().clone(),
            counts,
            longest_wait,
            fd_budget: self.fd_budget(),
            wanted_connections: self.core.fd_shares.wanted_connections(),
            history_size,
            manager: ServiceManager::current(),
            flushed,
        };
        let audience = self.audience();
        // The checks read directories, and a disk may be slow to answer.
        let diagnosis = move |_: &Abandoned| doctor::diagnose_engine(&snapshot, audience);
        let diagnostics = self.core.doctor_threads.run(self.uid(), diagnosis).await;
        diagnostics.map_err(|error| ApiError::new(ErrorCode::INTERNAL, error.to_string()))
    }

    /// Returns which diagnostics this engine's user may read.
    pub(crate) fn audience(&self) -> Audience {
        Audience::from_permit(self.authorize_admin().ok().as_ref())
    }
}
