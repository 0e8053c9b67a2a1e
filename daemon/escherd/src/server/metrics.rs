//! What the server counts. See [`crate::metrics`].

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The figures of connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
}

impl Figures {
    /// A connection is there.
    pub(super) fn opened(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    /// It has gone.
    pub(super) fn closed(&self) {
        self.open.dec();
    }

    /// One was refused for want of room.
    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    /// Adds them to what is told.
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
