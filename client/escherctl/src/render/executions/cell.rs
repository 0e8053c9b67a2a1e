//! The values of an execution in a list.

use escher_client::protocol::Exit;
use escher_client::{ExecutionRecord, Timestamp};

use super::list_view::ListView;
use crate::args::column::Column;
use crate::render::running_time::running_time;
use crate::render::style::Style;
use crate::render::{escape, text};
use crate::time;

/// How many digits of an id a table shows; verbs accept them in place of the id.
const SHORT_ID_DIGITS: usize = 8;

/// A value as it is shown, escaped.
pub(super) enum Value {
    Text(String),
    /// The execution has none.
    Missing,
}

impl<T: ToString> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Missing, |value| Value::Text(value.to_string()))
    }
}

pub(super) fn value(record: &ExecutionRecord, column: Column, list: &ListView<'_>) -> Value {
    let view = list.view;
    let at = |at: Timestamp| time::shown(at, &view.zone);
    let text = match column {
        Column::Number => record.number.to_string(),
        Column::Id if list.is_truncated => short_id(record),
        Column::Id => record.id.to_string(),
        Column::Name => return record.name.as_deref().map(escape::text).into(),
        Column::Status => shown_status(record),
        Column::Exit => return exit_status(record).into(),
        Column::Age => time::age(time::between(record.submitted_at, view.now)),
        Column::Time => return running_time(record, view.now).map(time::duration).into(),
        Column::User => escape::text(&record.user.to_string()),
        Column::Command => command(record, view.style),
        Column::Submitted => at(record.submitted_at),
        Column::Started => return record.started_at.map(at).into(),
        Column::Ended => return record.completed_at.map(at).into(),
        Column::Labels => return labels(record).into(),
        Column::Key => return record.key.as_deref().map(escape::text).into(),
        Column::Pid => return record.pid.into(),
    };
    Value::Text(text)
}

/// The order of values: numbers before texts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortValue {
    Number(i128),
    Text(String),
}

/// Returns the value by which executions are sorted, if this one has it.
pub(super) fn sort_value(
    record: &ExecutionRecord,
    column: Column,
    now: Timestamp,
) -> Option<SortValue> {
    let number = |number: i128| Some(SortValue::Number(number));
    let text = |text: String| Some(SortValue::Text(text));
    let at = |at: Timestamp| SortValue::Number(at.as_micros().into());
    match column {
        Column::Number => number(record.number.into()),
        Column::Id => text(record.id.to_string()),
        Column::Name => record.name.as_ref().and_then(|name| text(name.to_string())),
        Column::Status => text(shown_status(record)),
        Column::Exit => match record.outcome.as_ref()?.exit {
            Exit::Code(code) => number(code.into()),
            Exit::Signal { signal, .. } => number(128 + i128::from(signal)),
            _ => None,
        },
        Column::Age => number(-i128::from(record.submitted_at.as_micros())),
        Column::Time => {
            let micros = running_time(record, now)?.as_micros();
            number(i128::try_from(micros).unwrap_or(i128::MAX))
        }
        Column::User => text(record.user.to_string()),
        Column::Command => {
            let words = record.command.to_argv();
            text(escape::command_line(words.iter().map(|word| &word[..])))
        }
        Column::Submitted => Some(at(record.submitted_at)),
        Column::Started => record.started_at.map(at),
        Column::Ended => record.completed_at.map(at),
        Column::Labels => labels(record).map(SortValue::Text),
        Column::Key => record.key.as_ref().and_then(|key| text(key.to_string())),
        Column::Pid => record.pid.and_then(|pid| number(pid.into())),
    }
}

/// Returns the last digits of the id, which are random, unlike the first.
fn short_id(record: &ExecutionRecord) -> String {
    let id = record.id.to_string();
    id[id.len() - SHORT_ID_DIGITS..].to_owned()
}

/// Returns the state, of which `paused` says more than `running`.
fn shown_status(record: &ExecutionRecord) -> String {
    if record.resources.paused {
        "paused".to_owned()
    } else {
        record.status.to_string()
    }
}

/// Returns the exit status of the main process, or the signal that killed it.
fn exit_status(record: &ExecutionRecord) -> Option<String> {
    match record.outcome.as_ref()?.exit {
        Exit::Code(code) => Some(code.to_string()),
        Exit::Signal { signal, .. } => Some(text::signal_name(signal)),
        _ => None,
    }
}

fn command(record: &ExecutionRecord, style: Style) -> String {
    let argv = record.command.to_argv();
    let mut command = escape::command_line(argv.iter().map(|word| &word[..]));
    if record.command_cut {
        command.push(' ');
        command.push_str(style.ellipsis());
    }
    command
}

fn labels(record: &ExecutionRecord) -> Option<String> {
    let labels = record.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| escape::text(&format!("{key}={value}")))
        .collect();
    (!labels.is_empty()).then(|| labels.join(","))
}
