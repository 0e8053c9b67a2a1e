//! What was looked at to see whether escher is well, and how it was found.

use serde::{Deserialize, Serialize};

use crate::blob::Text;

/// What one check has found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check: a permanent name in kebab-case. Several findings may be of the same one.
    pub check: Text,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found, for people.
    pub message: Text,
    /// What a person can do about it, where there is something to do.
    pub advice: Option<Text>,
}

impl Finding {
    /// A finding without advice.
    #[must_use]
    pub fn new(check: impl Into<Text>, verdict: Verdict, message: impl Into<Text>) -> Self {
        Finding {
            check: check.into(),
            verdict,
            message: message.into(),
            advice: None,
        }
    }

    /// All is as it should be.
    #[must_use]
    pub fn ok(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Finding::new(check, Verdict::Ok, message)
    }

    /// See [`Verdict::Note`].
    #[must_use]
    pub fn note(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Finding::new(check, Verdict::Note, message)
    }

    /// See [`Verdict::Warning`].
    #[must_use]
    pub fn warning(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Finding::new(check, Verdict::Warning, message)
    }

    /// See [`Verdict::Failure`].
    #[must_use]
    pub fn failure(check: impl Into<Text>, message: impl Into<Text>) -> Self {
        Finding::new(check, Verdict::Failure, message)
    }

    /// The same with what can be done about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Text>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// All is as it should be.
    Ok,
    /// Worth knowing; nothing has to be done about it.
    Note,
    /// It works, with less than there should be, or not for long.
    Warning,
    /// Something does not work.
    Failure,
}

impl Verdict {
    /// The verdict's name in JSON and lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        }
    }
}
