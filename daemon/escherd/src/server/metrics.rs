//! Metrics of connections. See [`crate::metrics`].

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl ConnectionMetrics {
    /// Counts an accepted connection.
    pub(super) fn count_opened(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    /// Counts the end of an accepted connection.
    pub(super) fn count_closed(&self) {
        self.open.dec();
    }

    /// Counts a connection that was refused because of a limit.
    pub(super) fn count_refused(&self) {
        self.refused.inc();
    }

    /// Adds the metrics to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open client connections", self.open.clone());
        registry.register(
            "connections_accepted",
            "Client connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Client connections refused because of a limit",
            self.refused.clone(),
        );
    }
}
