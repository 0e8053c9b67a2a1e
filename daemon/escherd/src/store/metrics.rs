//! What the store counts. See [`crate::metrics`].

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::moments;

/// The figures. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    commits: Histogram,
    failures: Counter,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            commits: moments(),
            failures: Counter::default(),
        }
    }
}

impl Figures {
    /// A transaction was committed.
    pub(super) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// A transaction was not.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// Adds them to what is told.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_commit",
            "How long transactions of the store took, from their beginning to their commit",
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
