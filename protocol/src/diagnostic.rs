//! Results of checks on the health of escher.

use serde::{Deserialize, Serialize};

use crate::blob::Text;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Permanent name of the check, in kebab-case. A check may have several diagnostics.
    pub check: Text,
    /// The severity.
    pub severity: Severity,
    /// The result, for people.
    pub message: Text,
    /// What to do about it, for people, if there is something to do.
    pub advice: Option<Text>,
}

impl Diagnostic {
    /// Creates a diagnostic without advice.
    #[must_use]
    pub fn new(check: impl Into<Text>, severity: Severity, message: impl Into<Text>) -> Self {
        Diagnostic {
            check: check.into(),
            severity,
            message: message.into(),
            advice: None,
        }
    }

    /// Creates a diagnostic of [`Severity::Ok`].
    #[must_use]
    pub fn ok(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Ok, message)
    }

    /// Creates a diagnostic of [`Severity::Note`].
    #[must_use]
    pub fn note(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Note, message)
    }

    /// Creates a diagnostic of [`Severity::Warning`].
    #[must_use]
    pub fn warning(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Warning, message)
    }

    /// Creates a diagnostic of [`Severity::Failure`].
    #[must_use]
    pub fn failure(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Diagnostic::new(check, Severity::Failure, message)
    }

    /// Adds advice to the diagnostic.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Text>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// How serious a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// All is as it should be.
    Ok,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Works, but is restricted or will soon fail.
    Warning,
    /// Something does not work.
    Failure,
}

impl Severity {
    /// Returns the severity's name in JSON and tables.
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
