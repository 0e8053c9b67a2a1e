//! Points in time as values of options.

use std::str::FromStr;

use escher_client::Timestamp;

use super::invalid_value::{InvalidValue, invalid};
use crate::time;

/// A point in time; an age such as `2h` counts back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PointInTime(pub(crate) Timestamp);

impl FromStr for PointInTime {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        time::parse(text)
            .map(PointInTime)
            .or_else(|error| invalid(error.to_string()))
    }
}
