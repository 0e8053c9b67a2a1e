//! The largest requests that escherd accepts: every list in them is at its limit.

use escher_client::protocol::execution::{
    MAX_LABELS, MAX_NAME_BYTES, MAX_VARIABLE_NAME_BYTES, MAX_VARIABLES,
};
use escher_client::protocol::message::{
    Condition, ListFilter, MAX_CONDITIONS, Property, Selection,
};
use escher_client::{Command, ExecutionRequest, StdinMode, Text};

/// A submission, with this key. All its variables have names of the same length.
#[must_use]
pub fn submission(key: String) -> ExecutionRequest {
    let name = |index: usize| format!("{index:0>width$}", width = MAX_VARIABLE_NAME_BYTES);
    let argument = "a".repeat(100_000);
    let arguments = std::iter::repeat_n(argument.as_str().into(), 8);
    ExecutionRequest {
        command: Command::Exec {
            argv: std::iter::once("true".into()).chain(arguments).collect(),
        },
        environment: (0..MAX_VARIABLES)
            .map(|index| (name(index).as_str().into(), "v".into()))
            .collect(),
        labels: labels(),
        name: Some("n".repeat(MAX_NAME_BYTES).into()),
        key: Some(key.into()),
        working_dir: Some("/".into()),
        stdin: StdinMode::Stream,
        ..ExecutionRequest::default()
    }
}

/// A selection, for lists and for removals.
#[must_use]
pub fn selection() -> Selection {
    let label = |(key, value)| Condition::is(Property::Label(key, value));
    let conditions = labels().into_iter().map(label).take(MAX_CONDITIONS);
    Selection {
        filter: ListFilter {
            all: true,
            conditions: conditions.collect(),
            limit: 0,
        },
        since: None,
        until: None,
    }
}

fn labels() -> Vec<(Text, Text)> {
    let label = |index| {
        let key = format!("{index:0>width$}", width = MAX_NAME_BYTES);
        (key.into(), "v".repeat(MAX_NAME_BYTES).into())
    };
    (0..MAX_LABELS).map(label).collect()
}
