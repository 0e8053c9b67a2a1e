//! escherd's metrics as OpenMetrics text.
//!
//! The [scheduler](crate::scheduler), the [store](crate::store) and the [server](crate::server)
//! each have metrics of their own, and count events where they happen. Counting costs an atomic
//! addition or an uncontended lock; all other work is done on request. Values of labels come from
//! fixed tables and are never a name, a user or an id, which bounds the number of time series.
//! `docs/metrics.md` lists them.

use escher_protocol::{ApiError, ErrorCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds, in seconds, of the buckets for short durations.
const SHORT_BUCKETS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 10.0,
];

/// Upper bounds, in seconds, of the buckets for durations of commands.
const LONG_BUCKETS: [f64; 12] = [
    0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0,
];

/// Returns a histogram of durations that are normally milliseconds.
pub(crate) fn short_durations() -> Histogram {
    Histogram::new(SHORT_BUCKETS)
}

/// Returns a histogram of durations from milliseconds to days.
pub(crate) fn long_durations() -> Histogram {
    Histogram::new(LONG_BUCKETS)
}

/// Returns an empty registry.
pub(crate) fn registry() -> Registry {
    Registry::with_prefix("escher")
}

/// Encodes all metrics of a registry.
///
/// # Errors
/// `internal` if they cannot be encoded.
pub(crate) fn encode_text(registry: &Registry) -> Result<String, ApiError> {
    let mut text = String::new();
    encode(&mut text, registry).map_err(|error| {
        let message = format!("cannot encode the metrics: {error}");
        ApiError::new(ErrorCode::INTERNAL, message)
    })?;
    Ok(text)
}
