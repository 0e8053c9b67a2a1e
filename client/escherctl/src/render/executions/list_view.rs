//! How a list is shown.

use crate::args::column::Column;
use crate::render::view::View;

/// How a list is shown.
#[derive(Debug)]
pub(crate) struct ListView<'a> {
    /// The columns that were chosen; none: those that fit.
    pub(crate) columns: &'a [Column],
    pub(crate) is_truncated: bool,
    pub(crate) view: &'a View,
}

impl ListView<'_> {
    pub(super) fn chosen_columns(&self) -> &[Column] {
        if self.columns.is_empty() {
            &Column::DEFAULT
        } else {
            self.columns
        }
    }
}
