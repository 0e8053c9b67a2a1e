//! Selections of executions: their validation, and the comparison of labels.

use escher_protocol::execution::{MAX_LABELS, MAX_NAME_BYTES};
use escher_protocol::id::MAX_REFERENCE_BYTES;
use escher_protocol::message::Selection;
use escher_protocol::{ApiError, ErrorCode, Status, Target, Text};

/// Validates a selection, so that the cost of answering it is bounded.
///
/// # Errors
/// `invalid-request`, with a message that names the limit and what was over it.
pub fn check_selection(selection: &Selection) -> Result<(), ApiError> {
    let filter = &selection.filter;
    check_count("statuses", filter.statuses.len(), Status::TABLE.len())?;
    for (index, status) in filter.statuses.iter().enumerate() {
        if filter.statuses[..index].contains(status) {
            return Err(invalid(format!("the filter has the status {status} twice")));
        }
    }
    check_count("labels", filter.labels.len(), MAX_LABELS)?;
    for (key, value) in &filter.labels {
        check_length("a label", key, MAX_NAME_BYTES)?;
        check_length("a label's value", value, MAX_NAME_BYTES)?;
    }
    let texts = [("the name", &filter.name), ("the user", &filter.user)];
    for (field, text) in texts {
        if let Some(text) = text {
            check_length(field, text, MAX_NAME_BYTES)?;
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

fn check_count(field: &str, count: usize, max: usize) -> Result<(), ApiError> {
    if count <= max {
        return Ok(());
    }
    Err(invalid(format!(
        "the filter has {count} {field}: the maximum is {max}"
    )))
}

fn check_length(field: &str, text: &Text, max: usize) -> Result<(), ApiError> {
    if text.len() <= max {
        return Ok(());
    }
    let length = text.len();
    Err(invalid(format!(
        "{field} in the filter has {length} bytes: the maximum is {max}"
    )))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, message)
}

/// The labels that a filter demands, for comparison with those of many executions. A comparison
/// takes one search for each label of the execution, however many are demanded.
#[derive(Debug)]
pub struct RequiredLabels<'a> {
    /// Sorted, each once.
    labels: Vec<(&'a str, &'a str)>,
}

impl<'a> RequiredLabels<'a> {
    /// Prepares the labels of a filter.
    #[must_use]
    pub fn new(labels: &'a [(Text, Text)]) -> Self {
        let mut labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        labels.sort_unstable();
        labels.dedup();
        RequiredLabels { labels }
    }

    /// Returns the labels, each once.
    #[must_use]
    pub fn as_slice(&self) -> &[(&'a str, &'a str)] {
        &self.labels
    }

    /// Returns whether no execution can have all of them, because one key has two values.
    #[must_use]
    pub fn are_contradictory(&self) -> bool {
        let mut neighbours = self.labels.windows(2);
        neighbours.any(|two| matches!(two, [(one, _), (other, _)] if one == other))
    }

    /// Returns whether all of them are among the labels of an execution, whose keys are unique.
    pub fn are_among<K: AsRef<str>, V: AsRef<str>>(
        &self,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> bool {
        let is_required = |(key, value): &(K, V)| {
            let label = (key.as_ref(), value.as_ref());
            self.labels.binary_search(&label).is_ok()
        };
        self.labels.is_empty()
            || labels.into_iter().filter(is_required).count() == self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::message::ListFilter;

    fn refusal(filter: ListFilter) -> Option<String> {
        let error = check_selection(&filter.into()).err()?;
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        Some(error.message.into_string())
    }

    fn labels(count: usize) -> Vec<(Text, Text)> {
        let label = |number: usize| (format!("k{number}").into(), "v".into());
        (0..count).map(label).collect()
    }

    fn text(length: usize) -> Text {
        "x".repeat(length).into()
    }

    #[test]
    fn every_list_and_text_of_a_filter_is_bounded() {
        let with_labels = |labels| ListFilter {
            labels,
            ..ListFilter::default()
        };
        let with_name = |name| ListFilter {
            name: Some(name),
            ..ListFilter::default()
        };
        let with_user = |user| ListFilter {
            user: Some(user),
            ..ListFilter::default()
        };
        let with_statuses = |statuses| ListFilter {
            statuses,
            ..ListFilter::default()
        };
        let every_status = Status::TABLE.map(|row| row.0).to_vec();
        for legal in [
            ListFilter::default(),
            with_labels(labels(64)),
            with_labels(vec![(text(255), text(255))]),
            with_name(text(255)),
            with_user(text(255)),
            with_statuses(every_status.clone()),
        ] {
            assert_eq!(refusal(legal), None);
        }
        let eight = [every_status, vec![Status::Lost]].concat();
        for (filter, expected) in [
            (
                with_labels(labels(65)),
                "the filter has 65 labels: the maximum is 64",
            ),
            (
                with_labels(vec![(text(256), text(1))]),
                "a label in the filter has 256 bytes: the maximum is 255",
            ),
            (
                with_labels(vec![(text(1), text(256))]),
                "a label's value in the filter has 256 bytes: the maximum is 255",
            ),
            (
                with_name(text(256)),
                "the name in the filter has 256 bytes: the maximum is 255",
            ),
            (
                with_user(text(256)),
                "the user in the filter has 256 bytes: the maximum is 255",
            ),
            (
                with_statuses(eight),
                "the filter has 8 statuses: the maximum is 7",
            ),
            (
                with_statuses(vec![Status::Lost, Status::Failed, Status::Lost]),
                "the filter has the status lost twice",
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

    #[test]
    fn required_labels_must_all_be_there() {
        let label = |(key, value): (&str, &str)| (Text::from(key), Text::from(value));
        let owned =
            |labels: &[(&str, &str)]| -> Vec<_> { labels.iter().copied().map(label).collect() };
        let have = [("a", "1"), ("b", "2"), ("c", "3")];
        for (required, are_among, are_contradictory) in [
            (&[][..], true, false),
            (&[("b", "2")], true, false),
            (&[("c", "3"), ("a", "1"), ("c", "3")], true, false),
            (&[("a", "2")], false, false),
            (&[("a", "1"), ("d", "4")], false, false),
            (&[("a", "1"), ("a", "2")], false, true),
        ] {
            let required = owned(required);
            let required = RequiredLabels::new(&required);
            assert_eq!(required.are_among(have), are_among, "{required:?}");
            assert_eq!(required.are_contradictory(), are_contradictory);
        }
    }
}
