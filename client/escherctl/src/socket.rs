//! Which socket to connect to when nobody says.

use std::io;
use std::path::{Path, PathBuf};

const SYSTEM_SOCKET: &str = "/run/escher/escherd.sock";
const USER_SOCKET: &str = "escher/escherd.sock";

/// Who has named the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--socket`.
    Option,
    /// `ESCHER_SOCKET`.
    Variable,
    /// Nobody: it is the system's.
    System,
    /// Nobody: it is the user's, for there is none of the system's.
    User,
}

/// The socket to connect to, and those that were looked for in vain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketChoice {
    path: PathBuf,
    origin: Origin,
    absent: Vec<PathBuf>,
}

impl SocketChoice {
    /// `given`, else `ESCHER_SOCKET`, else the system's if it is there, else the user's.
    pub(crate) fn make(given: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        choose(
            given
                .map(|path| (path, Origin::Option))
                .or_else(|| Some((variable("ESCHER_SOCKET")?.into(), Origin::Variable))),
            variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            may_exist,
        )
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn absent(&self) -> &[PathBuf] {
        &self.absent
    }
}

fn choose(
    given: Option<(PathBuf, Origin)>,
    runtime_dir: Option<PathBuf>,
    may_exist: impl Fn(&Path) -> bool,
) -> SocketChoice {
    let system = PathBuf::from(SYSTEM_SOCKET);
    let (path, origin, absent) = match (given, runtime_dir) {
        (Some((given, origin)), _) => (given, origin, Vec::new()),
        (None, Some(dir)) if !may_exist(&system) => {
            (dir.join(USER_SOCKET), Origin::User, vec![system])
        }
        (None, _) => (system, Origin::System, Vec::new()),
    };
    SocketChoice {
        path,
        origin,
        absent,
    }
}

/// A socket in a directory that is closed to this user counts: connecting tells why it cannot.
fn may_exist(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_comes_before_the_user() {
        let system = Path::new(SYSTEM_SOCKET);
        let user = Path::new("/run/user/7/escher/escherd.sock");
        let runtime_dir = || Some(PathBuf::from("/run/user/7"));
        let given = Some(("/s".into(), Origin::Variable));
        let given = choose(given, runtime_dir(), |_| true);
        assert_eq!(given.path(), Path::new("/s"));
        assert_eq!(given.origin(), Origin::Variable);
        assert_eq!(choose(None, runtime_dir(), |_| true).path(), system);
        assert_eq!(choose(None, None, |_| false).path(), system);
        let fallen_back = choose(None, runtime_dir(), |_| false);
        assert_eq!(fallen_back.path(), user);
        assert_eq!(fallen_back.origin(), Origin::User);
        assert_eq!(fallen_back.absent(), [system]);
    }
}
