//! The server: it serves clients on the Unix socket.
//!
//! [`listener`] creates the socket, [`accept`] accepts connections within the limits of the
//! [`connection_table`], [`connection`]
//! speaks the protocol on one of them, [`requests`] answers requests by calls of the
//! [engine](crate::api), and [`outbox`] sends the answers. [`http`] is the other face of the same
//! operations: [`face`] tells which one a client speaks. [`memory`] bounds what clients can make
//! escherd hold. [`refused`] has the connections over those limits, and
//! [`refusals`] keeps the log of them short. [`metrics_http`] serves another socket, for metrics
//! alone.

mod accept;
mod connection;
mod connection_table;
mod face;
mod http;
mod listener;
mod memory;
mod metrics;
mod metrics_http;
mod not_serving;
mod outbox;
mod refusals;
mod refused;
mod requests;

pub use accept::serve;
pub use listener::{ListenError, bind};
pub use metrics_http::serve_metrics;
pub(crate) use not_serving::{RefusalPeriod, refuse_clients};

use std::sync::Arc;

use escher_protocol::message::DaemonInfo;
use escher_protocol::{ApiError, Diagnostic, Reloaded};
use tokio::sync::watch;

use self::memory::MemoryBudget;
use self::metrics::ServerMetrics;
use crate::api::ExecutionEngine;
use crate::authz::AdminPermit;
use crate::config::ConnectionLimits;
use crate::doctor;
use crate::reload::ActiveConfiguration;
use crate::turns::Turns;

/// How many requests are decoded and begun before those of another user are.
const REQUESTS_AT_ONCE: usize = 8;

/// What all connections share.
#[derive(Debug)]
pub struct ServerContext {
    /// The engine, with the authority of escherd's own user.
    pub engine: ExecutionEngine,
    /// The configuration in force, which can be reloaded.
    pub configuration: Arc<ActiveConfiguration>,
    /// Information about this escherd that does not change.
    pub static_info: DaemonInfo,
    metrics: ServerMetrics,
    /// The memory that clients take.
    memory: MemoryBudget,
    /// The turns in which users' requests are decoded and begun.
    request_turns: Turns,
}

impl ServerContext {
    /// Creates the context of a server that has no connections yet.
    #[must_use]
    pub fn new(
        engine: ExecutionEngine,
        configuration: Arc<ActiveConfiguration>,
        static_info: DaemonInfo,
    ) -> Self {
        ServerContext {
            metrics: ServerMetrics::default(),
            memory: MemoryBudget::new(configuration.client_memory_limits()),
            request_turns: Turns::new(REQUESTS_AT_ONCE),
            engine,
            configuration,
            static_info,
        }
    }

    /// Loads the configuration again and applies its reloadable settings.
    ///
    /// # Errors
    /// As [`ActiveConfiguration::reload`].
    pub async fn reload(
        &self,
        permit: AdminPermit,
        engine: &ExecutionEngine,
    ) -> Result<Reloaded, ApiError> {
        let reloaded = self.configuration.reload(permit, engine).await;
        self.memory
            .set_limits(self.configuration.client_memory_limits());
        reloaded
    }

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
        self.metrics.register(&mut registry, &self.memory);
        crate::metrics::encode_text(&registry)
    }

    /// Diagnoses this escherd. The diagnostics are those that the user of `engine` may read.
    async fn diagnose(&self, engine: &ExecutionEngine) -> Result<Vec<Diagnostic>, ApiError> {
        let mut diagnostics = doctor::diagnose_daemon(self.static_info.serves_all_users);
        diagnostics.extend(engine.diagnose().await?);
        diagnostics.extend(self.configuration.diagnose(engine).await?);
        Ok(diagnostics)
    }
}

/// Waits until escherd closes its connections.
async fn until_closing(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which closes the connections as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
