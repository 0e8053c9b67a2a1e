//! Which escherd a client connects to: the system's, or the user's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use escher_protocol::socket_paths::{UserRuntimeDir, system_socket};
use nix::unistd::geteuid;

/// The variable with the path of a socket to use instead of the default ones.
const SOCKET_VARIABLE: &str = "ESCHER_SOCKET";

/// Where the path of a socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOrigin {
    /// The program has specified it.
    Program,
    /// The variable `ESCHER_SOCKET`.
    Environment,
    /// It is that of the system's escherd.
    System,
    /// It is that of the user's own escherd.
    User,
}

/// A socket at which an escherd may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EscherdSocket {
    path: PathBuf,
    origin: SocketOrigin,
    /// A directory of the path that has to be private, because others could have created it.
    private_dir: Option<PathBuf>,
}

impl EscherdSocket {
    /// Returns that of the system's escherd.
    #[must_use]
    pub fn system() -> Self {
        Self::new(system_socket(), SocketOrigin::System)
    }

    /// Returns that of the user's own escherd: in `$XDG_RUNTIME_DIR/escher`, else in
    /// `/run/user/<uid>/escher`, else in a private directory in the temporary one.
    #[must_use]
    pub fn user() -> Self {
        let dir = UserRuntimeDir::of(geteuid().as_raw(), |name| std::env::var_os(name));
        EscherdSocket {
            private_dir: dir.is_temporary.then(|| dir.path.clone()),
            ..Self::new(dir.socket(), SocketOrigin::User)
        }
    }

    fn new(path: PathBuf, origin: SocketOrigin) -> Self {
        EscherdSocket {
            path,
            origin,
            private_dir: None,
        }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the path comes from.
    #[must_use]
    pub fn origin(&self) -> SocketOrigin {
        self.origin
    }

    pub(crate) fn private_dir(&self) -> Option<&Path> {
        self.private_dir.as_deref()
    }
}

/// The sockets that a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketChoice {
    preferred: EscherdSocket,
    alternative: Option<EscherdSocket>,
}

impl SocketChoice {
    /// Chooses the socket at `path`.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        EscherdSocket::new(path.into(), SocketOrigin::Program).into()
    }

    /// Chooses the system's escherd.
    #[must_use]
    pub fn system() -> Self {
        EscherdSocket::system().into()
    }

    /// Chooses the user's own escherd.
    #[must_use]
    pub fn user() -> Self {
        EscherdSocket::user().into()
    }

    /// Chooses the socket that `ESCHER_SOCKET` names; without it the system's escherd, and where that has
    /// no socket or this user may not use it, the user's own.
    #[must_use]
    pub fn by_default() -> Self {
        Self::by_variable(std::env::var_os(SOCKET_VARIABLE))
    }

    fn by_variable(path: Option<OsString>) -> Self {
        match path.filter(|path| !path.is_empty()) {
            Some(path) => EscherdSocket::new(path.into(), SocketOrigin::Environment).into(),
            None => SocketChoice {
                preferred: EscherdSocket::system(),
                alternative: Some(EscherdSocket::user()),
            },
        }
    }

    /// Returns the socket that is used if it can be.
    #[must_use]
    pub fn preferred(&self) -> &EscherdSocket {
        &self.preferred
    }

    /// Returns the socket that is used where the preferred one cannot be.
    #[must_use]
    pub fn alternative(&self) -> Option<&EscherdSocket> {
        self.alternative.as_ref()
    }
}

impl From<EscherdSocket> for SocketChoice {
    fn from(socket: EscherdSocket) -> Self {
        SocketChoice {
            preferred: socket,
            alternative: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_replaces_both_default_sockets() {
        let choice = SocketChoice::by_variable(Some("/s".into()));
        assert_eq!(choice.preferred().path(), Path::new("/s"));
        assert_eq!(choice.preferred().origin(), SocketOrigin::Environment);
        assert_eq!(choice.alternative(), None);
        for unset in [None, Some(OsString::new())] {
            let choice = SocketChoice::by_variable(unset);
            assert_eq!(choice.preferred(), &EscherdSocket::system());
            assert_eq!(choice.alternative(), Some(&EscherdSocket::user()));
        }
    }
}
