//! `escher.toml` as packages install it: all settings with their defaults, as comments. From
//! `docs/configuration.md`.

use anyhow::Context;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::settings::DOCUMENT;

/// The heading above the code block that lists all settings.
const HEADING: &str = "All settings";

const PREFACE: &str = "\
# Configuration of escherd, see escher.toml(5). The values below are the defaults.
#
# escherctl config check    check this file
# escherctl reload          apply it, as far as possible without a restart
# escherctl config show     show the settings in force, and where each comes from

";

/// Returns the text of the file: tables as they are, keys as comments.
pub(crate) fn file() -> anyhow::Result<String> {
    let mut text = PREFACE.to_owned();
    for line in block()?.lines() {
        if line.starts_with('[') || line.is_empty() || line.starts_with('#') {
            text.push_str(line);
        } else {
            text.push_str("# ");
            text.push_str(line);
        }
        text.push('\n');
    }
    Ok(text)
}

fn block() -> anyhow::Result<String> {
    let mut events = Parser::new(DOCUMENT);
    events
        .find(|event| matches!(event, Event::Text(text) if **text == *HEADING))
        .with_context(|| format!("docs/configuration.md has no heading `{HEADING}`"))?;
    let block = events
        .skip_while(|event| !matches!(event, Event::Start(Tag::CodeBlock(_))))
        .skip(1)
        .take_while(|event| !matches!(event, Event::End(TagEnd::CodeBlock)));
    Ok(block
        .filter_map(|event| match event {
            Event::Text(text) => Some(text.into_string()),
            _ => None,
        })
        .collect())
}
