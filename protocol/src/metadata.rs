//! Where a request comes from, as its labels say it.

use crate::blob::Text;

/// Label key of [`Metadata::source`].
pub const SOURCE_LABEL: &str = "source";
/// Label key of [`Metadata::conversation_id`].
pub const CONVERSATION_LABEL: &str = "conversation-id";
/// A tag is a label whose key is this and the tag, without a value: `tag.nightly`.
pub const TAG_PREFIX: &str = "tag.";

/// Where a request comes from. It travels as labels of
/// [`ExecutionRequest::labels`](crate::ExecutionRequest::labels), so that everything that finds executions by
/// labels finds them by this too: `escherctl ps --filter label.source=ci`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Which program or service asks.
    pub source: Option<Text>,
    /// What the request belongs to, as its asker counts it.
    pub conversation_id: Option<Text>,
    /// Words to find it by.
    pub tags: Vec<Text>,
}

impl Metadata {
    /// The labels that say this.
    #[must_use]
    pub fn to_labels(&self) -> Vec<(Text, Text)> {
        let label = |key: &str, value: &Option<Text>| {
            let value = value.clone()?;
            Some((Text::from(key), value))
        };
        let tags = self.tags.iter();
        let tags = tags.map(|tag| (format!("{TAG_PREFIX}{}", &**tag).into(), Text::default()));
        label(SOURCE_LABEL, &self.source)
            .into_iter()
            .chain(label(CONVERSATION_LABEL, &self.conversation_id))
            .chain(tags)
            .collect()
    }

    /// What `labels` say of it; other labels are passed over.
    #[must_use]
    pub fn of_labels(labels: &[(Text, Text)]) -> Self {
        let mut metadata = Metadata::default();
        for (key, value) in labels {
            match &**key {
                SOURCE_LABEL => metadata.source = Some(value.clone()),
                CONVERSATION_LABEL => metadata.conversation_id = Some(value.clone()),
                key => metadata
                    .tags
                    .extend(key.strip_prefix(TAG_PREFIX).map(Text::from)),
            }
        }
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_all_of_it_and_other_labels_nothing() {
        let metadata = Metadata {
            source: Some("ci".into()),
            conversation_id: Some("4711".into()),
            tags: vec!["nightly".into(), "".into()],
        };
        let mut labels = metadata.to_labels();
        labels.push(("team".into(), "infra".into()));
        assert_eq!(labels.len(), 5);
        assert_eq!(Metadata::of_labels(&labels), metadata);
        assert_eq!(Metadata::default().to_labels(), []);
    }
}
