//! Draws the screen.

use escher_client::{ExecutionId, Status, Timestamp};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::bindings::BINDINGS;
use super::columns::{Column, Table, command, percent};
use super::figures::Figures;
use super::model::{Mode, Model};
use crate::render::escape;
use crate::render::quantity::size;

/// Fewest lines of a screen on which the output of a command is shown.
const MIN_HEIGHT_FOR_LOG: u16 = 12;

/// Says which row is selected, and makes room for that.
const MARKER: &str = "> ";
const NO_MARKER: &str = "  ";

/// The most important keys, on a line of which the end may be cut.
const HINTS: &str = "q quit  ? help  c cancel  p pause  l output  P M T D N sort by CPU, memory, time, disk, number";

/// The states that have a colour. Each is written out, too.
const STATE_COLORS: [(&str, Color); 8] = [
    ("running", Color::Green),
    ("paused", Color::Yellow),
    ("ending", Color::Yellow),
    ("completed", Color::Green),
    ("failed", Color::Red),
    ("cancelled", Color::Red),
    ("timeout", Color::Red),
    ("lost", Color::Red),
];

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Palette {
    pub(super) has_colors: bool,
}

impl Palette {
    fn colored(self, color: Color) -> Style {
        if self.has_colors {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }
}

/// Where the parts of the screen are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    summary: Rect,
    /// The header of the table and its rows.
    table: Rect,
    /// The title of the output and its lines; may be empty.
    log: Rect,
    bottom: Rect,
}

impl Layout {
    /// The output gets a third of the screen, and what `rows` leave.
    fn new(area: Rect, rows: usize, shows_log: bool) -> Self {
        let line =
            |y: u16, height: u16| Rect::new(area.x, y, area.width, height).intersection(area);
        let body = area.height.saturating_sub(2);
        let wanted = u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1);
        let table = if shows_log && area.height >= MIN_HEIGHT_FOR_LOG {
            wanted.clamp(2, body - area.height / 3)
        } else {
            body
        };
        Layout {
            summary: line(area.y, 1),
            table: line(area.y + 1, table),
            log: line(area.y + 1 + table, body - table),
            bottom: line(area.y + 1 + body, 1),
        }
    }
}

/// Returns how many rows of the table a screen shows at once.
pub(super) fn page_rows(area: Rect, model: &Model) -> usize {
    let layout = Layout::new(area, model.rows.len(), model.shows_log);
    usize::from(layout.table.height.saturating_sub(1)).max(1)
}

/// Draws everything.
pub(super) fn draw(buffer: &mut Buffer, model: &Model, now: Timestamp, palette: Palette) {
    let area = buffer.area;
    let layout = Layout::new(area, model.rows.len(), model.shows_log);
    draw_summary(buffer, layout.summary, model, palette);
    if model.mode == Mode::Help {
        draw_help(buffer, layout.table.union(layout.log));
    } else {
        draw_table(buffer, layout.table, model, now, palette);
        draw_log(buffer, layout.log, model);
    }
    draw_bottom(buffer, layout.bottom, model);
}

/// Writes a line from the left. What does not fit is cut.
fn write(buffer: &mut Buffer, area: Rect, line: u16, text: &str, style: Style) {
    if line < area.height {
        buffer.set_stringn(area.x, area.y + line, text, area.width.into(), style);
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn draw_summary(buffer: &mut Buffer, area: Rect, model: &Model, palette: Palette) {
    if model.is_unavailable {
        let style = palette.colored(Color::Red).add_modifier(Modifier::BOLD);
        let text = "escherd is unavailable: waiting for it, figures are old";
        return write(buffer, area, 0, text, style);
    }
    if !model.is_listed {
        return write(buffer, area, 0, "asking escherd", Style::new());
    }
    let count = |status| {
        let rows = model.rows.iter();
        rows.filter(|row| row.record.status == status).count()
    };
    let total = |figure: fn(&Figures) -> Option<u64>| {
        let figures = model.rows.iter().filter_map(|row| figure(&row.figures));
        figures.reduce(u64::saturating_add)
    };
    let (running, pending) = (count(Status::Running), count(Status::Pending));
    let mut summary = format!("{running} running, {pending} pending");
    if model.is_truncated {
        summary.push_str(" (and more)");
    }
    if let Some(cpu) = total(|figures| figures.cpu_permille) {
        summary.push_str(&format!("  CPU {}%", percent(cpu)));
    }
    if let Some(memory) = total(|figures| figures.memory_bytes) {
        summary.push_str(&format!("  memory {}", size(memory)));
    }
    summary.push_str(&format!("  by {}", model.order.by.name()));
    if model.order.is_reversed {
        summary.push_str(", least first");
    }
    write(buffer, area, 0, &summary, Style::new());
}

fn draw_table(buffer: &mut Buffer, area: Rect, model: &Model, now: Timestamp, palette: Palette) {
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    // The page of the selected row, so that the rows stand still while the selection moves.
    let first = model.selected / page * page;
    let end = model.rows.len().min(first + page);
    let rows = &model.rows[first..end];
    let width = usize::from(area.width).saturating_sub(MARKER.len());
    let table = Table::new(rows, now, Some(width));
    let header = format!("{NO_MARKER}{}", table.header());
    let header = format!("{header:<width$}", width = area.width.into());
    write(
        buffer,
        area,
        0,
        &header,
        Style::new().add_modifier(Modifier::REVERSED),
    );
    if model.is_listed && rows.is_empty() {
        let text = format!("{NO_MARKER}nothing runs or waits");
        write(buffer, area, 1, &text, Style::new());
    }
    for (index, (row, line)) in rows.iter().zip(table.lines()).enumerate() {
        let (marker, style) = if first + index == model.selected {
            (MARKER, bold())
        } else {
            (NO_MARKER, Style::new())
        };
        let place = u16::try_from(index + 1).unwrap_or(u16::MAX);
        write(buffer, area, place, &format!("{marker}{line}"), style);
        if let Some(color) = state_color(row.state()) {
            let cell = status_cell(area, place, &table);
            buffer.set_style(cell, palette.colored(color));
        }
    }
}

fn state_color(state: &str) -> Option<Color> {
    let mut colors = STATE_COLORS.iter();
    colors
        .find(|(name, _)| *name == state)
        .map(|(_, color)| *color)
}

/// Returns where the state is on a line of the table.
fn status_cell(area: Rect, line: u16, table: &Table) -> Rect {
    let before = table.columns.iter();
    let before = before.take_while(|filled| filled.column != Column::Status);
    let start: usize = before.map(|filled| filled.width + 1).sum();
    let width = table.columns.iter();
    let width = width.filter(|filled| filled.column == Column::Status);
    let width: usize = width.map(|filled| filled.width).sum();
    let clamped = |columns| u16::try_from(columns).unwrap_or(u16::MAX);
    let x = area.x.saturating_add(clamped(MARKER.len() + start));
    let y = area.y.saturating_add(line);
    Rect::new(x, y, clamped(width), 1).intersection(area)
}

fn draw_log(buffer: &mut Buffer, area: Rect, model: &Model) {
    if area.height == 0 {
        return;
    }
    let title = match model.selected_row() {
        Some(row) => {
            let name = row.record.name.as_deref();
            let name = name.map_or_else(String::new, |name| format!(" ({})", escape::text(name)));
            format!("-- output of {}{name} ", row.record.number)
        }
        None => "-- output ".to_owned(),
    };
    let title = format!("{title:-<width$}", width = area.width.into());
    write(buffer, area, 0, &title, bold());
    let count = usize::from(area.height - 1);
    for (place, line) in (1..).zip(model.log.last(count)) {
        write(buffer, area, place, &line, Style::new());
    }
}

fn draw_help(buffer: &mut Buffer, area: Rect) {
    write(buffer, area, 0, "Keys (any key leaves this help)", bold());
    let keys_width = BINDINGS
        .iter()
        .map(|binding| binding.shown_keys.len())
        .max();
    let keys_width = keys_width.unwrap_or(0);
    for (place, binding) in (2..).zip(BINDINGS) {
        let line = format!(
            "{NO_MARKER}{:<keys_width$}  {}",
            binding.shown_keys, binding.description
        );
        write(buffer, area, place, &line, Style::new());
    }
}

fn draw_bottom(buffer: &mut Buffer, area: Rect, model: &Model) {
    match (model.mode, &model.message) {
        (Mode::AskToCancel(id, number), _) => {
            write(buffer, area, 0, &question(model, id, number), bold());
        }
        (_, Some(message)) => write(buffer, area, 0, &escape::text(message), bold()),
        (_, None) => write(buffer, area, 0, HINTS, Style::new()),
    }
}

/// Returns the question whether to cancel an execution. What can be answered comes first: the end may be cut.
fn question(model: &Model, id: ExecutionId, number: u64) -> String {
    let row = model.rows.iter().find(|row| row.record.id == id);
    let command = row.map(command).unwrap_or_default();
    format!("cancel {number}? y/n: {command}")
}

#[cfg(test)]
mod tests;
