//! The error for a value that an option does not take.

use std::str::FromStr;

/// Says which values are valid; clap names the option and the value before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidValue(String);

/// Parses a number without a sign.
pub(super) fn whole_number<N: FromStr>(text: &str) -> Result<N, InvalidValue> {
    text.parse().or_else(|_| invalid("expected a whole number"))
}

/// Fails with `message`.
pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T, InvalidValue> {
    Err(InvalidValue(message.into()))
}
