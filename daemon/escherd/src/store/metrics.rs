//! What the store measures. See [`crate::metrics`].

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::short_durations;

/// The metrics of the store. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct StoreMetrics {
    commits: Histogram,
    failures: Counter,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        StoreMetrics {
            commits: short_durations(),
            failures: Counter::default(),
        }
    }
}

impl StoreMetrics {
    /// Records a committed transaction.
    pub(super) fn add_commit(&self, duration: Duration) {
        self.commits.observe(duration.as_secs_f64());
    }

    /// Records a failed transaction.
    pub(super) fn add_failure(&self) {
        self.failures.inc();
    }

    /// Adds the metrics to `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_commit",
            "Duration of the store's transactions, from their beginning to their commit",
            Unit::Seconds,
            self.commits.clone(),
        );
        registry.register(
            "store_failures",
            "Transactions of the store that failed",
            self.failures.clone(),
        );
    }
}
