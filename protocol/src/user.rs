//! Users of the host.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::Text;

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The login name, if the user database has one.
    pub name: Option<Text>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => f.pad(&self.uid.to_string()),
        }
    }
}
