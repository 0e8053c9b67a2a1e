//! `--filter` of `events`.

use std::str::FromStr;

use escher_client::{EventFilter, Status, Text};

use super::invalid_value::{InvalidValue, invalid};
use crate::failure::Failure;

/// What an event must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventCondition {
    Status(Status),
    Name(Text),
}

impl FromStr for EventCondition {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some(("name", name)) => Ok(EventCondition::Name(name.into())),
            Some(("status", name)) => Status::from_name(name)
                .filter(|status| status.is_finished())
                .map_or_else(
                    || invalid("expected the state in which an execution ended, such as failed"),
                    |status| Ok(EventCondition::Status(status)),
                ),
            _ => invalid("expected KEY=VALUE, where KEY is status or name"),
        }
    }
}

/// Makes a filter of conditions: of several states any, of names one.
pub(crate) fn into_filter(conditions: Vec<EventCondition>) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter::default();
    for condition in conditions {
        match condition {
            EventCondition::Status(status) if filter.statuses.contains(&status) => {}
            EventCondition::Status(status) => filter.statuses.push(status),
            EventCondition::Name(name) => {
                if filter.name.replace(name).is_some() {
                    return Err(Failure::usage("only one --filter name= is possible", None));
                }
            }
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_or_a_state_at_the_end() {
        let parse = |text: &str| text.parse::<EventCondition>();
        assert_eq!(
            parse("status=failed").unwrap(),
            EventCondition::Status(Status::Failed)
        );
        assert_eq!(
            parse("name=a=b").unwrap(),
            EventCondition::Name("a=b".into())
        );
        for text in ["status=running", "status=x", "user=1", "name"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn several_states_are_any_of_them_and_there_is_one_name() {
        let status = EventCondition::Status;
        let conditions = vec![
            status(Status::Failed),
            status(Status::Lost),
            status(Status::Failed),
        ];
        let filter = into_filter(conditions).unwrap();
        assert_eq!(filter.statuses, [Status::Failed, Status::Lost]);
        let name = || EventCondition::Name("n".into());
        assert!(into_filter(vec![name()]).is_ok());
        assert!(into_filter(vec![name(), name()]).is_err());
    }
}
