//! The socket: connections in, frames in, frames out.
//!
//! [`listener`] makes the socket, [`accept`] takes connections within limits, [`session`] speaks the protocol
//! on one, [`dispatch`] has the [engine](crate::api) answer what is asked, [`outbox`] sends.
//! [`metrics_http`] is another socket, for metrics alone.

mod accept;
mod dispatch;
mod listener;
mod metrics;
mod metrics_http;
mod outbox;
mod session;

pub use accept::serve;
pub use listener::{ListenError, bind};
pub use metrics::Figures;
pub use metrics_http::serve_metrics;

use std::sync::Arc;

use escher_protocol::message::DaemonInfo;
use escher_protocol::{ApiError, Diagnostic};
use tokio::sync::watch;

use crate::api::ExecutionEngine;
use crate::config::ConnectionLimits;
use crate::doctor;
use crate::reload::LiveConfiguration;

/// What every session works with.
#[derive(Debug)]
pub struct Service {
    /// Everything that can be asked.
    pub engine: ExecutionEngine,
    /// What is set, and how that is changed.
    pub configuration: Arc<LiveConfiguration>,
    /// What does not change about this escherd.
    pub about: DaemonInfo,
    /// What is counted of connections.
    pub figures: Figures,
}

impl Service {
    /// What a new connection has to keep to: the settings, and what there are open files for.
    fn connection_limits(&self) -> ConnectionLimits {
        let wanted = self.configuration.connection_limits();
        ConnectionLimits {
            max_connections: wanted.max_connections.min(self.engine.budget().connections),
            ..wanted
        }
    }

    /// What this escherd counts, as text.
    async fn metrics(&self) -> Result<String, ApiError> {
        let mut registry = self.engine.figures().await?;
        self.figures.register(&mut registry);
        crate::metrics::encode_text(&registry)
    }

    /// Whether this escherd and what it stands on are well, for whom `engine` is.
    async fn diagnose(&self, engine: &ExecutionEngine) -> Result<Vec<Diagnostic>, ApiError> {
        let audience = engine.audience();
        let mut findings = doctor::supervision();
        findings.extend(engine.diagnose().await?);
        findings.extend(self.configuration.examine(audience).await?);
        Ok(findings)
    }
}

/// Waits until escherd says goodbye.
async fn until_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to say it.
    let _ = closing.wait_for(|closing| *closing).await;
}
