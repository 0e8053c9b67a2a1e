//! Where a setting's value comes from.

use std::fmt;
use std::path::PathBuf;

use super::profiles::Profile;

/// Where a setting's value comes from. Later ones go over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// The profile that was chosen.
    Profile(Profile),
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(&'static str),
    /// An option of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Whether somebody has given this very value, and not just left it, or chosen a profile that has it.
    pub(super) fn is_a_choice(&self) -> bool {
        !matches!(self, Origin::Default | Origin::Profile(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Profile(profile) => write!(f, "profile {profile}"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}
