//! Ids of executions, escherd instances and requests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::blob::Text;

/// The id of one execution: a UUID v7 given by escherd, so ids sort by the time of submission.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExecutionId(#[serde(with = "uuid::serde::compact")] Uuid);

impl ExecutionId {
    /// Creates a new id.
    #[must_use]
    pub fn generate() -> Self {
        ExecutionId(Uuid::now_v7())
    }

    /// Creates the id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        ExecutionId(Uuid::from_bytes(bytes))
    }

    /// Returns the id's bytes.
    #[must_use]
    pub const fn into_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExecutionId({self})")
    }
}

/// A text that is not an execution id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an execution id (a UUID such as 01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42)")]
pub struct ParseIdError;

impl FromStr for ExecutionId {
    type Err = ParseIdError;
    /// Parses the hyphenated form, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(ExecutionId(uuid)),
            _ => Err(ParseIdError),
        }
    }
}

/// The id of one run of escherd: new at every start, so that a client notices a restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceId(#[serde(with = "uuid::serde::compact")] Uuid);

impl InstanceId {
    /// Creates a new id.
    #[must_use]
    pub fn generate() -> Self {
        InstanceId(Uuid::now_v7())
    }

    /// Creates the id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        InstanceId(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

/// The id of a request on one connection, chosen by the client. No two requests in flight have the
/// same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Fewest digits of a UUID's head or tail that a [`Target::Reference`] may be.
pub const MIN_ID_PART_DIGITS: usize = 4;

/// The execution to which a request applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The execution with this id.
    Id(ExecutionId),
    /// A reference as a person types it. escherd tries, in this order: a number, a full UUID, a
    /// name (of the newest execution with that name), a unique head or tail of a UUID with at least
    /// [`MIN_ID_PART_DIGITS`] digits.
    Reference(Text),
}

impl From<ExecutionId> for Target {
    fn from(id: ExecutionId) -> Self {
        Target::Id(id)
    }
}

impl From<&str> for Target {
    fn from(text: &str) -> Self {
        Target::Reference(text.into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Id(id) => id.fmt(f),
            Target::Reference(text) => text.fmt(f),
        }
    }
}
