//! Conditions of a filter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::blob::Text;
use crate::execution::Status;

/// Most conditions of a filter.
pub const MAX_CONDITIONS: usize = 64;

/// A condition on executions, as text `KEY=VALUE` or `KEY!=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is compared, with the value.
    pub property: Property,
    /// Whether the property must not have this value.
    pub is_negated: bool,
}

/// A property of executions with a value that it is compared with. In texts `*` stands for any
/// characters and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Property {
    /// The state.
    Status(Status),
    /// How the main process ended: its exit status, or 128 and the number of the signal that killed it.
    /// Executions without an end of this kind do not match, whether the condition is negated or not.
    Exit(u32),
    /// The user that it runs as: a login name or a uid.
    User(Text),
    /// The name.
    Name(Text),
    /// The words of the command with spaces between them, as far as a list shows them.
    Command(Text),
    /// The value of the label with this key, which is compared as it is.
    Label(Text, Text),
}

impl Condition {
    /// Returns the condition that an execution has this property.
    #[must_use]
    pub const fn is(property: Property) -> Self {
        Condition {
            property,
            is_negated: false,
        }
    }

    /// Returns the condition that an execution does not have this property.
    #[must_use]
    pub const fn is_not(property: Property) -> Self {
        Condition {
            property,
            is_negated: true,
        }
    }
}

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It is not of the form.
    #[error(
        "expected KEY=VALUE or KEY!=VALUE, where KEY is status, exit, user, name, command or label.KEY"
    )]
    Form,
    /// There is no such state.
    #[error("unknown status; expected one of {}", Status::TABLE.map(|row| row.1).join(", "))]
    UnknownStatus,
    /// It is no exit status.
    #[error("expected an exit status from 0 to 255; death by signal N is 128+N")]
    NoExitStatus,
}

impl FromStr for Condition {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let (key, value) = text.split_once('=').ok_or(ConditionError::Form)?;
        let (key, is_negated) = match key.strip_suffix('!') {
            Some(key) => (key, true),
            None => (key, false),
        };
        let property = match (key, key.strip_prefix("label.")) {
            (_, Some(label)) if !label.is_empty() => Property::Label(label.into(), value.into()),
            ("status", _) => {
                Property::Status(Status::from_name(value).ok_or(ConditionError::UnknownStatus)?)
            }
            ("exit", _) => {
                let status = value.parse::<u8>();
                Property::Exit(status.map_err(|_| ConditionError::NoExitStatus)?.into())
            }
            ("user", _) => Property::User(value.into()),
            ("name", _) => Property::Name(value.into()),
            ("command", _) => Property::Command(value.into()),
            _ => return Err(ConditionError::Form),
        };
        Ok(Condition {
            property,
            is_negated,
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.is_negated { "!=" } else { "=" };
        match &self.property {
            Property::Status(status) => write!(f, "status{operator}{status}"),
            Property::Exit(status) => write!(f, "exit{operator}{status}"),
            Property::User(user) => write!(f, "user{operator}{user}"),
            Property::Name(name) => write!(f, "name{operator}{name}"),
            Property::Command(command) => write!(f, "command{operator}{command}"),
            Property::Label(key, value) => write!(f, "label.{key}{operator}{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_shown() {
        for text in [
            "status=lost",
            "status!=completed",
            "exit=0",
            "exit!=255",
            "user=alice",
            "name!=night*",
            "command=*make*=?",
            "label.a.b=c=d",
            "label.a!=",
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.to_string(), text);
            assert_eq!(condition.is_negated, text.contains("!="), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_was_expected() {
        use ConditionError::{Form, NoExitStatus, UnknownStatus};
        for (text, expected) in [
            ("status=gone", UnknownStatus),
            ("exit=256", NoExitStatus),
            ("exit=SIGTERM", NoExitStatus),
            ("label.=x", Form),
            ("colour=red", Form),
            ("status", Form),
            ("", Form),
            ("=x", Form),
        ] {
            assert_eq!(text.parse::<Condition>(), Err(expected), "{text}");
        }
    }
}
