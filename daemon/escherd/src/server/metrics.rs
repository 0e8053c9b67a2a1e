//! Metrics of connections and requests. See [`crate::metrics`].

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::memory::MemoryBudget;

/// Counters of connections and requests. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    requests: Counter,
}

impl ServerMetrics {
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

    /// Counts a request that is begun.
    pub(super) fn count_request(&self) {
        self.requests.inc();
    }

    /// Adds the metrics to a registry, with that of `memory`.
    pub(super) fn register(&self, registry: &mut Registry, memory: &MemoryBudget) {
        registry.register(
            "client_memory_bytes",
            "Memory that requests and answers of clients take",
            memory.gauge(),
        );
        registry.register(
            "requests",
            "Requests of clients begun",
            self.requests.clone(),
        );
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
