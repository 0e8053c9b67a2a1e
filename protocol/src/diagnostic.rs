//! What was looked at to see whether escher is well, and how it was found.

use serde::{Deserialize, Serialize};

use crate::blob::Text;

/// What one check has found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The check: a permanent name in kebab-case. Several diagnostics may be of the same one.
    pub check: Text,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, for people.
    pub message: Text,
    /// What a person can do about it, where there is something to do.
    pub advice: Option<Text>,
}

impl Diagnostic {
    /// A diagnostic without advice.
    #[must_use]
    pub fn new(check: impl Into<Text>, severity: Severity, message: impl Into<Text>) -> Self {
        Diagnostic {
            check: check.into(),
            severity,
            message: message.into(),
            advice: None,
        }
    }

    /// All is as it should be.
    #[must_use]
    pub fn ok(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Ok, message)
    }

    /// See [`Severity::Note`].
    #[must_use]
    pub fn note(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Note, message)
    }

    /// See [`Severity::Warning`].
    #[must_use]
    pub fn warning(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Warning, message)
    }

    /// See [`Severity::Failure`].
    #[must_use]
    pub fn failure(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Failure, message)
    }

    /// The same with what can be done about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Text>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// All is as it should be.
    Ok,
    /// Worth knowing; nothing has to be done about it.
    Note,
    /// It works, with less than there should be, or not for long.
    Warning,
    /// Something does not work.
    Failure,
}

impl Severity {
    /// The severity's name in JSON and lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Failure => "failure",
        }
    }
}
