//! Metadata of a request, stored as labels.

use crate::blob::Text;

/// Label key of [`Metadata::source`].
pub const SOURCE_LABEL: &str = "source";
/// Label key of [`Metadata::conversation_id`].
pub const CONVERSATION_LABEL: &str = "conversation-id";
/// Prefix of the label key of a tag; the label has no value: `tag.nightly`.
pub const TAG_PREFIX: &str = "tag.";

/// The origin of a request. It is stored in
/// [`ExecutionRequest::labels`](crate::ExecutionRequest::labels), so that filters by labels work
/// for it too: `escherctl ps --filter label.source=ci`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The program or service that makes the request.
    pub source: Option<Text>,
    /// Id of the conversation or job to which the request belongs, as its program chooses it.
    pub conversation_id: Option<Text>,
    /// Keywords for filters.
    pub tags: Vec<Text>,
}

impl Metadata {
    /// Returns the metadata as labels.
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

    /// Reads the metadata from `labels`; other labels are ignored.
    #[must_use]
    pub fn from_labels(labels: &[(Text, Text)]) -> Self {
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
    fn metadata_survives_as_labels_among_others() {
        let metadata = Metadata {
            source: Some("ci".into()),
            conversation_id: Some("4711".into()),
            tags: vec!["nightly".into(), "".into()],
        };
        let mut labels = metadata.to_labels();
        labels.push(("team".into(), "infra".into()));
        assert_eq!(labels.len(), 5);
        assert_eq!(Metadata::from_labels(&labels), metadata);
        assert_eq!(Metadata::default().to_labels(), []);
    }
}
