//! Metrics of the engine as a whole.

use escher_protocol::ApiError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ExecutionEngine;
use crate::metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl ExecutionEngine {
    /// Returns the metrics of all users as
    /// [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text.
    /// `docs/metrics.md` explains each metric.
    ///
    /// # Errors
    /// `shutting-down`.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        metrics::encode_text(&self.metrics_registry().await?)
    }

    /// Returns the metrics in a registry, to which others can be added.
    pub(crate) async fn metrics_registry(&self) -> Result<Registry, ApiError> {
        let counts = self.counts().await?;
        let max_pending = self.settings().max_pending_executions;
        let mut registry = metrics::registry();
        registry.register("build_info", "Version of escherd", build_info());
        registry.register(
            "executions",
            "Current executions, by state",
            by_state(&[
                ("pending", counts.pending as u64),
                ("running", counts.running as u64),
                ("finished", self.finished_count().await),
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

/// Returns the metric `build_info`. It is a gauge and not an info, because parsers of Prometheus'
/// older text format do not know that type; the other types here are known to them.
fn build_info() -> Family<BuildLabels, Gauge> {
    let family: Family<BuildLabels, Gauge> = Family::default();
    let version = env!("CARGO_PKG_VERSION");
    family.get_or_create(&BuildLabels { version }).set(1);
    family
}

fn by_state(values: &[(&'static str, u64)]) -> Family<StateLabels, Gauge> {
    let family: Family<StateLabels, Gauge> = Family::default();
    for (state, value) in values {
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        family.get_or_create(&StateLabels { state }).set(value);
    }
    family
}
