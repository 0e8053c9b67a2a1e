//! The figures of the engine as a whole.

use escher_protocol::ApiError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ExecutionEngine;
use crate::metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

impl ExecutionEngine {
    /// What the engine counts, over all users, as [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/)
    /// text. `docs/metrics.md` says what each figure means.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        metrics::encode_text(&self.figures().await?)
    }

    /// The same, for more to be added.
    pub(crate) async fn figures(&self) -> Result<Registry, ApiError> {
        let counts = self.counts().await?;
        let max_pending = self.settings().max_pending_executions;
        let mut registry = metrics::registry();
        registry.register("build_info", "Version of escherd", build());
        registry.register(
            "executions",
            "Current executions, by state",
            by_state(&[
                ("pending", counts.pending as u64),
                ("running", counts.running as u64),
                ("finished", self.finished_count()),
            ]),
        );
        registry.register(
            "executions_limit",
            "Maximum number of executions, by state",
            by_state(&[
                ("pending", max_pending as u64),
                ("running", counts.max_concurrent as u64),
            ]),
        );
        self.core.metrics.register(&mut registry);
        self.core.store.register(&mut registry);
        Ok(registry)
    }
}

/// A gauge, not an info: readers of Prometheus' older format know nothing of that type, and all else as it is.
fn build() -> Family<Build, Gauge> {
    let family: Family<Build, Gauge> = Family::default();
    let version = env!("CARGO_PKG_VERSION");
    family.get_or_create(&Build { version }).set(1);
    family
}

fn by_state(values: &[(&'static str, u64)]) -> Family<State, Gauge> {
    let family: Family<State, Gauge> = Family::default();
    for (state, value) in values {
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        family.get_or_create(&State { state }).set(value);
    }
    family
}
