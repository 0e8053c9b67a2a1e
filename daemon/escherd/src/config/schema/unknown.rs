//! What to do about a name that the table does not have.

use super::{FLAT_SECTION, SECTIONS, SETTINGS};

/// Explains what to do about a key that its section does not have.
pub(in crate::config) fn explain_unknown_key(key: &str) -> String {
    let parts = |name: &'static str| name.split_once('.').unwrap_or(("", name));
    let known = SETTINGS.iter().map(|setting| parts(setting.name));
    if key == "profile" {
        return "belongs at the top of the file, before the first table".to_owned();
    }
    if let Some((section, _)) = known.clone().find(|known| known.1 == key) {
        return format!("belongs in [{section}]");
    }
    let likeness = |known: &(_, &str)| strsim::jaro_winkler(known.1, key);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some((section, nearest)) => format!("unknown key; did you mean {nearest} in [{section}]?"),
        None => "unknown key".to_owned(),
    }
}

/// Explains what to do about an unknown table.
pub(in crate::config) fn explain_unknown_section(name: &str) -> String {
    let sections = SECTIONS.map(|section| format!("[{section}]"));
    let likeness = |section: &&str| strsim::jaro_winkler(section, name);
    let nearest = SECTIONS
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or(FLAT_SECTION);
    format!(
        "unknown table; did you mean [{nearest}]? The tables are {}",
        sections.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_name_for_a_misspelled_one() {
        for (written, meant) in [
            ("max_timeot_ms", "max_timeout_ms in [execution]?"),
            ("kill_grace", "kill_grace_ms in [execution]?"),
            ("socket-mode", "socket_mode in [daemon]?"),
            ("max_age", "max_age_secs in [history]?"),
        ] {
            let explanation = explain_unknown_key(written);
            assert!(explanation.ends_with(meant), "{written}: {explanation}");
        }
        assert_eq!(explain_unknown_key("durability"), "belongs in [store]");
        assert!(explain_unknown_key("").contains("unknown key"));
        assert!(explain_unknown_section("daemons").contains("did you mean [daemon]?"));
    }
}
