//! What escherd counts of itself, as OpenMetrics text.
//!
//! Each room has its own figures and counts where things happen: the [engine](crate::scheduler), the
//! [store](crate::store), the [server](crate::server). To count costs an atomic addition or a lock that nobody
//! else wants; everything else is done when somebody asks. Labels have words from tables of escher's own, never
//! a name, a user or an id: there is a bounded number of figures. `docs/metrics.md` has them all.

use escher_protocol::{ApiError, ErrorCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What the text is to HTTP.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds, in seconds, for what should take no time.
const MOMENTS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 10.0,
];

/// Upper bounds, in seconds, for what takes as long as it takes.
const SPANS: [f64; 12] = [
    0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0,
];

/// Durations, in seconds, of what should take no time.
pub(crate) fn moments() -> Histogram {
    Histogram::new(MOMENTS)
}

/// Durations, in seconds, from a moment to days.
pub(crate) fn spans() -> Histogram {
    Histogram::new(SPANS)
}

/// To be filled by each room with its figures.
pub(crate) fn registry() -> Registry {
    Registry::with_prefix("escher")
}

/// All of them as text.
///
/// # Errors
/// `internal`: figures that cannot be written as text.
pub(crate) fn text(registry: &Registry) -> Result<String, ApiError> {
    let mut text = String::new();
    encode(&mut text, registry).map_err(|error| {
        let message = format!("the metrics cannot be written as text: {error}");
        ApiError::new(ErrorCode::INTERNAL, message)
    })?;
    Ok(text)
}
