//! The kinds of entries about executions in the journal (`MESSAGE_ID=`, systemd.journal-fields(7)). The
//! ids are permanent: catalogs and scripts refer to them.

/// `MESSAGE_ID` of a submission.
pub(crate) const SUBMITTED: &str = "fe683f76cfb74aebab6743798cf9c83d";
/// `MESSAGE_ID` of a start.
pub(crate) const STARTED: &str = "1a94d341058e475a9d75efb2f9f630c3";
/// `MESSAGE_ID` of a cancel request.
pub(crate) const CANCEL_REQUESTED: &str = "e80557d31479468490beb47a4ef3a0bd";
/// `MESSAGE_ID` of a pause, a resume, or a signal.
pub(crate) const CONTROLLED: &str = "1058f58b7f8b464a9fe08819714cb433";
/// `MESSAGE_ID` of an end.
pub(crate) const FINISHED: &str = "848ff98158534359a683cc8f228a869c";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_explains_every_kind_of_entry() {
        let catalog = include_str!("../../../systemd/escher.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        assert_eq!(entries.len(), 5, "the catalog has another entry");
        for kind in [SUBMITTED, STARTED, CANCEL_REQUESTED, CONTROLLED, FINISHED] {
            let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            assert!(kind.len() == 32 && kind.chars().all(is_digit));
            let entry = entries.iter().find(|entry| entry.starts_with(kind));
            let entry = entry.unwrap_or_else(|| panic!("{kind} is not in the catalog"));
            for field in ["Subject: ", "Defined-By: escher", "Support: "] {
                assert!(
                    entry.contains(&format!("\n{field}")),
                    "{kind} lacks {field}"
                );
            }
        }
    }
}
