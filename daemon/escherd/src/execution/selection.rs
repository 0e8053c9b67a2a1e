//! Validation of selections and references.

use escher_protocol::execution::MAX_NAME_BYTES;
use escher_protocol::id::MAX_REFERENCE_BYTES;
use escher_protocol::message::{MAX_CONDITIONS, Property, Selection};
use escher_protocol::{ApiError, ErrorCode, Target, Text};

/// Validates a selection, so that the cost of answering it is bounded.
///
/// # Errors
/// `invalid-request`, with a message that names the limit and what was over it.
pub fn check_selection(selection: &Selection) -> Result<(), ApiError> {
    let conditions = &selection.filter.conditions;
    if conditions.len() > MAX_CONDITIONS {
        return Err(invalid(format!(
            "the filter has {} conditions: the maximum is {MAX_CONDITIONS}",
            conditions.len()
        )));
    }
    for condition in conditions {
        match &condition.property {
            Property::Status(_) | Property::Exit(_) => {}
            Property::User(user) => check_length("the user", user)?,
            Property::Name(name) => check_length("the name", name)?,
            Property::Command(command) => check_length("the command", command)?,
            Property::Label(key, value) => {
                check_length("a label", key)?;
                check_length("a label's value", value)?;
            }
        }
    }
    Ok(())
}

/// Validates the length of a reference, which is looked up and repeated in error messages.
///
/// # Errors
/// `invalid-request`, with a message that names the limit and the length.
pub fn check_target(target: &Target) -> Result<(), ApiError> {
    match target {
        Target::Reference(text) if text.len() > MAX_REFERENCE_BYTES => Err(invalid(format!(
            "the reference to an execution has {} bytes: the maximum is {MAX_REFERENCE_BYTES}",
            text.len()
        ))),
        Target::Reference(_) | Target::Id(_) => Ok(()),
    }
}

fn check_length(field: &str, text: &Text) -> Result<(), ApiError> {
    if text.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let length = text.len();
    Err(invalid(format!(
        "{field} in the filter has {length} bytes: the maximum is {MAX_NAME_BYTES}"
    )))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::Status;
    use escher_protocol::message::{Condition, ListFilter};

    fn refusal(filter: ListFilter) -> Option<String> {
        let error = check_selection(&filter.into()).err()?;
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        Some(error.message.into_string())
    }

    fn text(length: usize) -> Text {
        "x".repeat(length).into()
    }

    #[test]
    fn the_number_of_conditions_and_every_text_in_them_is_bounded() {
        let filter = |conditions: Vec<Condition>| ListFilter {
            conditions,
            ..ListFilter::default()
        };
        let one = |property| filter(vec![Condition::is(property)]);
        let lost = Condition::is_not(Property::Status(Status::Lost));
        for legal in [
            ListFilter::default(),
            filter(vec![lost.clone(); 64]),
            one(Property::Label(text(255), text(255))),
            one(Property::Name(text(255))),
            one(Property::User(text(255))),
            one(Property::Command(text(255))),
        ] {
            assert_eq!(refusal(legal), None);
        }
        for (filter, expected) in [
            (
                filter(vec![lost; 65]),
                "the filter has 65 conditions: the maximum is 64",
            ),
            (
                one(Property::Label(text(256), text(1))),
                "a label in the filter has 256 bytes: the maximum is 255",
            ),
            (
                one(Property::Label(text(1), text(256))),
                "a label's value in the filter has 256 bytes: the maximum is 255",
            ),
            (
                one(Property::Name(text(256))),
                "the name in the filter has 256 bytes: the maximum is 255",
            ),
            (
                one(Property::User(text(256))),
                "the user in the filter has 256 bytes: the maximum is 255",
            ),
            (
                one(Property::Command(text(256))),
                "the command in the filter has 256 bytes: the maximum is 255",
            ),
        ] {
            assert_eq!(refusal(filter).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_reference_is_bounded() {
        let target = |length| Target::Reference(text(length));
        assert_eq!(check_target(&target(512)), Ok(()));
        let error = check_target(&target(513)).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        assert_eq!(
            error.message.as_str(),
            "the reference to an execution has 513 bytes: the maximum is 512"
        );
    }
}
