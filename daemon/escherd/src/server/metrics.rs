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
        registry.register(
            "connections",
            "Connections of clients that are open",
            self.open.clone(),
        );
        registry.register(
            "connections_accepted",
            "Connections of clients that were taken",
            self.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections of clients that were refused for want of room",
            self.refused.clone(),
        );
    }
}
