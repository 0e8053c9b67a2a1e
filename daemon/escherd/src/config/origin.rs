//! Where the value of a setting comes from.

use std::fmt;
use std::path::PathBuf;

use super::profiles::Profile;

/// Where the value of a setting comes from. Later variants override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The profile that was chosen.
    Profile(Profile),
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(&'static str),
    /// An option of the command line.
    CommandLineOption(&'static str),
}

impl Origin {
    /// Whether a person has set this value, in a file, a variable or an option: it is neither a
    /// default nor a profile's.
    pub(super) fn is_explicit(&self) -> bool {
        !matches!(self, Origin::Default | Origin::Profile(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Profile(profile) => write!(f, "profile {profile}"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) | Origin::CommandLineOption(name) => f.write_str(name),
        }
    }
}
