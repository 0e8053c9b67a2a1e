//! `escher.toml` as a package brings it: all settings with their defaults, none of them in force. Out of
//! `docs/configuration.md`.

use anyhow::Context;
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::settings::DOCUMENT;

/// Above the block of the document that has all of them.
const HEADING: &str = "All settings";

const PREFACE: &str = "\
# Configuration of escherd: see escher.toml(5). What stands here are the defaults.
#
# escherctl config check    is this file right?
# escherctl reload          put it in force, as far as that goes without a restart
# escherctl config show     what is in force, and where it comes from

";

/// The file's text: tables are there, keys are comments.
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
