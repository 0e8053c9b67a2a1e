//! What the environment says of colours and characters.

use std::ffi::OsString;

use crate::args::color::ColorChoice;

/// How output for people looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether colours are used, which never say anything that the text does not.
    pub(crate) has_color: bool,
    /// Whether escherctl's own text has ASCII characters alone.
    pub(crate) is_ascii: bool,
}

impl Style {
    /// Returns the style of output, which is a terminal or not.
    pub(crate) fn from_environment(choice: ColorChoice, is_terminal: bool) -> Self {
        Style::new(choice, is_terminal, |name| std::env::var_os(name))
    }

    fn new(
        choice: ColorChoice,
        is_terminal: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        let has_color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if value("NO_COLOR").is_some() => false,
            ColorChoice::Auto if value("CLICOLOR_FORCE").is_some_and(|force| force != "0") => true,
            ColorChoice::Auto => is_terminal && value("TERM").is_none_or(|term| term != "dumb"),
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(value);
        let is_ascii = locale.is_none_or(|locale| locale == "C" || locale == "POSIX");
        Style {
            has_color,
            is_ascii,
        }
    }

    /// Returns the mark of what is left out.
    pub(crate) fn ellipsis(self) -> &'static str {
        if self.is_ascii { "..." } else { "…" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(choice: ColorChoice, is_terminal: bool, variables: &[(&str, &str)]) -> Style {
        Style::new(choice, is_terminal, |name| {
            let mut variables = variables.iter();
            let found = variables.find(|variable| variable.0 == name);
            found.map(|variable| variable.1.into())
        })
    }

    #[test]
    fn an_option_outranks_the_environment_and_that_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        for (choice, is_terminal, variables, expected) in [
            (Auto, true, &[][..], true),
            (Auto, false, &[], false),
            (Auto, true, &[("NO_COLOR", "1")], false),
            (Auto, true, &[("NO_COLOR", "")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (
                Auto,
                true,
                &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
                false,
            ),
            (Auto, true, &[("TERM", "dumb")], false),
            (Always, false, &[("NO_COLOR", "1")], true),
            (Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            let style = style(choice, is_terminal, variables);
            assert_eq!(style.has_color, expected, "{choice:?} {variables:?}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_says_which_locale_it_is() {
        for (variables, is_ascii) in [
            (&[][..], true),
            (&[("LANG", "C")], true),
            (&[("LANG", "de_DE.UTF-8")], false),
            (&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "POSIX")], true),
            (&[("LANG", "C"), ("LC_CTYPE", "C.UTF-8")], false),
            (&[("LANG", "C.UTF-8"), ("LC_ALL", "")], false),
        ] {
            let style = style(ColorChoice::Auto, true, variables);
            assert_eq!(style.is_ascii, is_ascii, "{variables:?}");
        }
        let ascii = style(ColorChoice::Auto, true, &[]);
        assert_eq!(ascii.ellipsis(), "...");
    }
}
