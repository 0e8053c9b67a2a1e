//! Which of escherd's sockets to connect to.

use std::io;
use std::path::{Path, PathBuf};

const SYSTEM_SOCKET: &str = "/run/escher/escherd.sock";
/// Relative to `XDG_RUNTIME_DIR`.
const USER_SOCKET: &str = "escher/escherd.sock";

/// Where the path of the socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketOrigin {
    /// `--socket`.
    Option,
    /// `ESCHER_SOCKET`.
    Environment,
    /// The default: the system's.
    System,
    /// The default where the system's is missing: the user's.
    User,
}

impl SocketOrigin {
    /// Returns what systemd's programs take to reach the service manager of this socket's escherd:
    /// ` --user` or nothing.
    pub(crate) fn systemctl_option(self) -> &'static str {
        match self {
            SocketOrigin::User => " --user",
            SocketOrigin::Option | SocketOrigin::Environment | SocketOrigin::System => "",
        }
    }
}

/// The socket to connect to, and the default sockets that were missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketChoice {
    path: PathBuf,
    origin: SocketOrigin,
    missing: Vec<PathBuf>,
}

impl SocketChoice {
    /// Takes the path from `option`, else from `ESCHER_SOCKET`, else the system's socket if it
    /// exists, else the user's.
    pub(crate) fn resolve(option: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let specified = option
            .map(|path| (path, SocketOrigin::Option))
            .or_else(|| Some((variable("ESCHER_SOCKET")?.into(), SocketOrigin::Environment)));
        choose(
            specified,
            variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            may_exist,
        )
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn origin(&self) -> SocketOrigin {
        self.origin
    }

    pub(crate) fn missing(&self) -> &[PathBuf] {
        &self.missing
    }
}

fn choose(
    specified: Option<(PathBuf, SocketOrigin)>,
    runtime_dir: Option<PathBuf>,
    may_exist: impl Fn(&Path) -> bool,
) -> SocketChoice {
    let system = PathBuf::from(SYSTEM_SOCKET);
    let (path, origin, missing) = match (specified, runtime_dir) {
        (Some((path, origin)), _) => (path, origin, Vec::new()),
        (None, Some(dir)) if !may_exist(&system) => {
            (dir.join(USER_SOCKET), SocketOrigin::User, vec![system])
        }
        (None, _) => (system, SocketOrigin::System, Vec::new()),
    };
    SocketChoice {
        path,
        origin,
        missing,
    }
}

/// Returns true also where the directory is closed to the caller: connecting then fails with the
/// reason.
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
    fn prefers_the_specified_socket_then_the_systems_then_the_users() {
        let system = Path::new(SYSTEM_SOCKET);
        let user = Path::new("/run/user/7/escher/escherd.sock");
        let runtime_dir = || Some(PathBuf::from("/run/user/7"));
        let specified = Some(("/s".into(), SocketOrigin::Environment));
        let choice = choose(specified, runtime_dir(), |_| true);
        assert_eq!(choice.path(), Path::new("/s"));
        assert_eq!(choice.origin(), SocketOrigin::Environment);
        assert_eq!(choose(None, runtime_dir(), |_| true).path(), system);
        assert_eq!(choose(None, None, |_| false).path(), system);
        let fallback = choose(None, runtime_dir(), |_| false);
        assert_eq!(fallback.path(), user);
        assert_eq!(fallback.origin(), SocketOrigin::User);
        assert_eq!(fallback.missing(), [system]);
    }
}
