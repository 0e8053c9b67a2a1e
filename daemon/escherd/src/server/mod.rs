//! The server: it serves clients on the Unix socket.
//!
//! [`listener`] creates the socket, [`accept`] accepts connections within limits, [`connection`]
//! speaks the protocol on one of them, [`requests`] answers requests by calls of the
//! [engine](crate::api), and [`outbox`] sends the answers. [`metrics_http`] serves another socket,
//! for metrics alone.

mod accept;
mod connection;
mod listener;
mod metrics;
mod metrics_http;
mod outbox;
mod requests;

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
use crate::reload::ActiveConfiguration;

/// What all connections share.
#[derive(Debug)]
pub struct ServerContext {
    /// The engine, with the authority of escherd's own user.
    pub engine: ExecutionEngine,
    /// The configuration in force, which can be reloaded.
    pub configuration: Arc<ActiveConfiguration>,
    /// Information about this escherd that does not change.
    pub static_info: DaemonInfo,
    /// Metrics of connections.
    pub connection_metrics: ConnectionMetrics,
}

impl ServerContext {
    /// Returns the limits for new connections: the configured ones, or fewer connections if the
    /// limit on open files does not allow them.
    fn connection_limits(&self) -> ConnectionLimits {
        let configured = self.configuration.connection_limits();
        let max_connections = self.engine.fd_budget().connections;
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

    /// Diagnoses this escherd. The diagnostics are those that the user of `engine` may read.
    async fn diagnose(&self, engine: &ExecutionEngine) -> Result<Vec<Diagnostic>, ApiError> {
        let audience = engine.audience();
        let mut diagnostics = doctor::diagnose_daemon();
        diagnostics.extend(engine.diagnose().await?);
        diagnostics.extend(self.configuration.diagnose(audience).await?);
        Ok(diagnostics)
    }
}

/// Waits until escherd closes its connections.
async fn until_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which closes the connections as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
