//! Which columns fit a terminal, and how wide they are.

use crate::args::column::Column;

/// Space between columns.
pub(super) const GAP: u16 = 2;

/// The columns that a narrow terminal does without, in the order in which they are dropped: first the
/// second name of an execution, then what other columns or `inspect` tell as well.
const DROPPED: [Column; 6] = [
    Column::Id,
    Column::User,
    Column::Time,
    Column::Name,
    Column::Exit,
    Column::Age,
];

/// The columns that are shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) columns: Vec<LaidOut>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LaidOut {
    pub(super) column: Column,
    /// Its place among all columns.
    pub(super) index: usize,
    /// How wide it is; `None`: as wide as its widest value.
    pub(super) width: Option<usize>,
}

impl Layout {
    /// Lays out `columns`, which are as wide as `natural` says if nothing is left out. Without a width
    /// nothing is narrowed or dropped.
    pub(super) fn new(
        columns: &[Column],
        natural: &[usize],
        width: Option<usize>,
        may_drop: bool,
    ) -> Self {
        let mut measured: Vec<Measured> = columns
            .iter()
            .enumerate()
            .zip(natural)
            .map(|((index, column), natural)| Measured::new(*column, index, *natural))
            .collect();
        if let Some(width) = width {
            let mut dropped = DROPPED.iter().filter(|_| may_drop);
            while total(&measured, |of| of.least) > width
                && let Some(column) = dropped.next()
            {
                measured.retain(|of| of.column != *column);
            }
            narrow(&mut measured, width);
        }
        let columns = measured.into_iter().map(|of| LaidOut {
            column: of.column,
            index: of.index,
            width: (of.width < of.natural).then_some(of.width),
        });
        Layout {
            columns: columns.collect(),
        }
    }
}

/// A column with its widths in characters.
struct Measured {
    column: Column,
    index: usize,
    /// That of the widest value or the header.
    natural: usize,
    /// The least of which values are of use.
    least: usize,
    width: usize,
}

impl Measured {
    fn new(column: Column, index: usize, natural: usize) -> Self {
        Measured {
            column,
            index,
            natural,
            least: least_width(column).map_or(natural, |least| least.min(natural)),
            width: natural,
        }
    }
}

/// Returns how wide a column at least has to be; `None` if a part of its values is of no use.
fn least_width(column: Column) -> Option<usize> {
    match column {
        Column::Name | Column::User => Some(8),
        Column::Command => Some(16),
        Column::Labels | Column::Key => Some(10),
        _ => None,
    }
}

fn total(columns: &[Measured], width: impl Fn(&Measured) -> usize) -> usize {
    let gaps = usize::from(GAP) * columns.len().saturating_sub(1);
    columns.iter().map(width).sum::<usize>() + gaps
}

/// Narrows the widest columns until all fit, or are as narrow as they may be.
fn narrow(columns: &mut [Measured], width: usize) {
    while total(columns, |of| of.width) > width {
        let narrowable = columns.iter_mut().filter(|of| of.width > of.least);
        let Some(widest) = narrowable.max_by_key(|of| of.width) else {
            return;
        };
        widest.width -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of number, id, name, status, exit, age, time, user and a long command.
    const NATURAL: [usize; 9] = [6, 8, 12, 9, 4, 3, 6, 8, 70];

    fn layout(width: usize) -> (Vec<&'static str>, usize) {
        let layout = Layout::new(&Column::DEFAULT, &NATURAL, Some(width), true);
        let names = layout.columns.iter().map(|of| of.column.name()).collect();
        let widths = layout.columns.iter();
        let widths = widths.map(|of| of.width.unwrap_or(NATURAL[of.index]));
        let total = widths.sum::<usize>() + 2 * (layout.columns.len() - 1);
        (names, total)
    }

    #[test]
    fn narrow_terminals_do_without_columns_in_a_fixed_order() {
        for (width, expected) in [
            (200, "number id name status exit age time user command"),
            (100, "number id name status exit age time user command"),
            (79, "number name status exit age time user command"),
            (70, "number name status exit age time command"),
            (60, "number name status exit age command"),
            (50, "number status exit age command"),
            (42, "number status age command"),
            (37, "number status command"),
            (10, "number status command"),
        ] {
            let (names, total) = layout(width);
            assert_eq!(names.join(" "), expected, "{width}");
            assert!(total <= width || width == 10, "{total} of {width}");
        }
    }

    #[test]
    fn chosen_columns_are_never_dropped() {
        let layout = Layout::new(&Column::DEFAULT, &NATURAL, Some(20), false);
        assert_eq!(layout.columns.len(), Column::DEFAULT.len());
    }

    #[test]
    fn what_fits_is_as_wide_as_its_values() {
        let layout = Layout::new(&Column::DEFAULT, &NATURAL, None, true);
        assert!(layout.columns.iter().all(|of| of.width.is_none()));
    }
}
