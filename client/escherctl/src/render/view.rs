//! What answers for people depend on beside their contents.

use escher_client::Timestamp;

use super::style::Style;
use crate::time::Zone;

/// When, where and how answers are shown.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) now: Timestamp,
    /// The zone of times.
    pub(crate) zone: Zone,
    pub(crate) style: Style,
}

#[cfg(test)]
impl View {
    /// Returns a view in UTC, without colours, in ASCII.
    pub(crate) fn plain(now: Timestamp) -> Self {
        View {
            now,
            zone: Zone::utc(),
            style: Style {
                has_color: false,
                is_ascii: true,
            },
        }
    }
}
