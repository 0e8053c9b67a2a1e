//! Tables of settings, quotas and diagnostics.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use escher_client::{Diagnostic, Quota, Setting};

use super::escape;
use super::quantity::size;

/// Space between columns.
const GAP: u16 = 2;

/// Returns settings, fitted to the terminal if there is one: a long value takes several lines.
pub(crate) fn settings(settings: &[Setting]) -> String {
    let mut table = new_table([
        ("SETTING", Fit::Whole),
        ("VALUE", Fit::Shrink),
        ("FROM", Fit::Shrink),
    ]);
    for setting in settings {
        table.add_row([
            escape::text(&setting.name),
            escape::text(&setting.value.to_string()),
            escape::text(&setting.origin),
        ]);
    }
    table.trim_fmt() + "\n"
}

/// The headers of quotas.
const QUOTA_HEADERS: [&str; 7] = [
    "USER",
    "RUNNING",
    "PENDING",
    "PENDING SIZE",
    "LOG DISK",
    "HISTORY",
    "LOGS",
];

/// Returns what users take and may take: one user per line or, where the terminal is too narrow for
/// that, one value.
pub(crate) fn quotas(quotas: &[Quota]) -> String {
    let table = new_table(QUOTA_HEADERS.map(|header| (header, Fit::Whole)));
    let width = table.width().map(usize::from);
    fitted_quotas(quotas, table, width)
}

fn fitted_quotas(quotas: &[Quota], mut table: Table, width: Option<usize>) -> String {
    let rows: Vec<[String; 7]> = quotas.iter().map(quota_cells).collect();
    table.add_rows(&rows);
    let lines = table.trim_fmt() + "\n";
    let fits = |width| lines.lines().all(|line| line.chars().count() <= width);
    if width.is_none_or(fits) {
        return lines;
    }
    let users = rows.into_iter().map(|cells| {
        let values = QUOTA_HEADERS.into_iter().zip(cells);
        let rows = values.map(|(header, cell)| [header.to_owned(), cell]);
        table_of(rows.collect(), [Fit::Whole; 2]).trim_fmt() + "\n"
    });
    users.collect::<Vec<_>>().join("\n")
}

fn quota_cells(quota: &Quota) -> [String; 7] {
    let (bytes, max_bytes) = (size(quota.pending_bytes), size(quota.max_pending_bytes));
    let (disk, max_disk) = (size(quota.log_disk_bytes), size(quota.max_log_disk_bytes));
    let history = &quota.history;
    let (log_bytes, log_share) = (size(history.log_bytes), size(history.log_bytes_share));
    [
        escape::text(&quota.user.to_string()),
        format!("{} of {}", quota.running, quota.max_running),
        format!("{} of {}", quota.pending, quota.max_pending),
        format!("{bytes} of {max_bytes}"),
        format!("{disk} of {max_disk}"),
        format!("{} of {}", history.finished, history.finished_share),
        format!("{log_bytes} of {log_share}"),
    ]
}

/// Returns diagnostics, one per line, with the advice below the message. On a terminal both take
/// several lines where one is too short.
pub(crate) fn diagnostics(diagnostics: &[&Diagnostic]) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    diagnostics_table(diagnostics).trim_fmt() + "\n"
}

fn diagnostics_table(diagnostics: &[&Diagnostic]) -> Table {
    let mut rows = Vec::new();
    for diagnostic in diagnostics {
        let severity = diagnostic.severity.name().to_owned();
        // They come from escherd, which may be of another version.
        let (check, message) = (&diagnostic.check, &diagnostic.message);
        rows.push([severity, escape::text(check), escape::text(message)]);
        if let Some(advice) = &diagnostic.advice {
            let hint = format!("hint: {}", escape::text(advice));
            rows.push([String::new(), String::new(), hint]);
        }
    }
    table_of(rows, [Fit::Whole, Fit::Whole, Fit::Shrink])
}

/// How a column adapts to a narrow terminal.
#[derive(Debug, Clone, Copy)]
enum Fit {
    /// As wide as its content.
    Whole,
    /// At least as wide as its header.
    Shrink,
}

/// Makes a table without borders, with these headers.
fn new_table<const COLUMNS: usize>(columns: [(&str, Fit); COLUMNS]) -> Table {
    let mut table = empty_table();
    table.set_header(columns.map(|(header, _)| header));
    fit(&mut table, columns.map(|(header, fit)| (header.len(), fit)));
    table
}

/// Makes a table of these rows without borders and headers.
fn table_of<const COLUMNS: usize>(rows: Vec<[String; COLUMNS]>, fits: [Fit; COLUMNS]) -> Table {
    let mut table = empty_table();
    table.add_rows(rows);
    fit(&mut table, fits.map(|fit| (0, fit)));
    table
}

fn empty_table() -> Table {
    let mut table = Table::new();
    let arrangement = if table.is_tty() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(arrangement);
    table
}

/// Adapts the columns, each of which has a least width.
fn fit<const COLUMNS: usize>(table: &mut Table, columns: [(usize, Fit); COLUMNS]) {
    for (column, (least, fit)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, GAP));
        column.set_constraint(match fit {
            Fit::Whole => ColumnConstraint::ContentWidth,
            Fit::Shrink => {
                let width = u16::try_from(least).unwrap_or(u16::MAX);
                ColumnConstraint::LowerBoundary(Width::Fixed(width.saturating_add(GAP)))
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::SettingValue;
    use escher_client::protocol::User;
    use escher_client::protocol::message::HistoryQuota;

    #[test]
    fn advice_is_below_the_message_and_both_are_broken_between_words() {
        let diagnostics = [
            Diagnostic::ok("socket", "exists"),
            Diagnostic::warning("log-space", "almost\x1b[2J full").advise("free some space"),
        ];
        assert_eq!(
            super::diagnostics(&diagnostics.each_ref()),
            "ok       socket     exists\n\
             warning  log-space  almost\\x1b[2J full\n\
             \u{20}                   hint: free some space\n"
        );
        let mut narrow = diagnostics_table(&diagnostics.each_ref());
        narrow.set_content_arrangement(ContentArrangement::Dynamic);
        narrow.set_width(38);
        assert_eq!(
            narrow.trim_fmt(),
            "ok       socket     exists\n\
             warning  log-space  almost\\x1b[2J\n\
             \u{20}                   full\n\
             \u{20}                   hint: free some\n\
             \u{20}                   space"
        );
        assert_eq!(super::diagnostics(&[]), "");
    }

    /// The lines were broken by the terminal, and nobody saw which value was which.
    #[test]
    fn quotas_that_do_not_fit_have_a_line_for_each_value() {
        let quota = Quota {
            user: User { uid: 7, name: None },
            pending: 0,
            max_pending: 0,
            pending_bytes: 0,
            max_pending_bytes: 0,
            running: 1,
            max_running: 2,
            log_disk_bytes: 0,
            max_log_disk_bytes: 0,
            history: HistoryQuota {
                finished: 0,
                finished_share: 0,
                log_bytes: 0,
                log_bytes_share: 0,
            },
        };
        let shown = |width| {
            let table = new_table(QUOTA_HEADERS.map(|header| (header, Fit::Whole)));
            fitted_quotas(&[quota.clone(), quota.clone()], table, width)
        };
        let wide = shown(None);
        let widest = wide.lines().map(str::len).max();
        assert_eq!(wide.lines().count(), 3, "{wide}");
        assert_eq!(shown(widest), wide);
        let narrow = shown(widest.map(|width| width - 1));
        let lines: Vec<&str> = narrow.lines().collect();
        assert_eq!(lines.len(), 2 * QUOTA_HEADERS.len() + 1, "{narrow}");
        assert_eq!(lines[1], "RUNNING       1 of 2");
        assert_eq!(lines[QUOTA_HEADERS.len()], "");
    }

    #[test]
    fn settings_keep_the_order_of_escherd() {
        let setting = |name: &str, value, origin: &str| Setting {
            name: name.into(),
            value,
            origin: origin.into(),
            is_reloadable: false,
        };
        let shown = settings(&[
            setting(
                "execution.stream_output",
                SettingValue::Flag(true),
                "default",
            ),
            setting("daemon.socket", SettingValue::Unset, "a\x1b[31m"),
        ]);
        assert_eq!(
            shown,
            "SETTING                  VALUE  FROM\n\
             execution.stream_output  true   default\n\
             daemon.socket            -      a\\x1b[31m\n"
        );
    }
}
