//! The server: it serves clients on the Unix socket.
//!
//! [`listener`] creates the socket, [`accept`] accepts connections within limits, [`session`]
//! speaks the protocol on one connection, [`dispatch`] maps requests to calls of the
//! [engine](crate::api), and [`outbox`] sends the answers. [`metrics_http`] serves another socket,
//! for metrics alone.

mod accept;
mod dispatch;
mod listener;
mod metrics;
mod metrics_http;
mod outbox;
mod session;

pub use accept::serve;
pub use listener::{ListenError, bind};
pub use metrics::ConnectionMetrics;
pub use metrics_http::serve_metrics;

use std::sync::Arc;

use escher_protocol::message::DaemonInfo;
use escher_protocol::{ApiError, Diagnostic};
use tokio::sync::watch;

use crate::api::ExecutionEngine;
use crate::config::ConnectionLimits;
use crate::doctor;
use crate::reload::LiveConfiguration;

/// What all sessions share.
#[derive(Debug)]
pub struct Service {
    /// The engine, with the authority of escherd's own user.
    pub engine: ExecutionEngine,
    /// The configuration in force, which can be reloaded.
    pub configuration: Arc<LiveConfiguration>,
    /// Static information about this escherd.
    pub about: DaemonInfo,
    /// Metrics of connections.
    pub connection_metrics: ConnectionMetrics,
}

impl Service {
    /// Returns the limits for new connections: the settings, further limited by descriptors.
    fn connection_limits(&self) -> ConnectionLimits {
        let configured = self.configuration.connection_limits();
        let max_connections = self.engine.budget().connections;
        ConnectionLimits {
            max_connections: configured.max_connections.min(max_connections),
            ..configured
        }
    }

    /// Returns all metrics of this escherd as OpenMetrics text.
    async fn metrics(&self) -> Result<String, ApiError> {
        let mut registry = self.engine.metrics_registry().await?;
        self.connection_metrics.register(&mut registry);
        crate::metrics::encode_text(&registry)
    }

    /// Diagnoses this escherd, for the user of `engine`.
    async fn diagnose(&self, engine: &ExecutionEngine) -> Result<Vec<Diagnostic>, ApiError> {
        let audience = engine.audience();
        let mut diagnostics = doctor::supervision();
        diagnostics.extend(engine.diagnose().await?);
        diagnostics.extend(self.configuration.examine(audience).await?);
        Ok(diagnostics)
    }
}

/// Waits until escherd closes its connections.
async fn until_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which closes the connections as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
