//! Defaults that depend on the kind of installation: paths, and the group of the socket.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use escher_protocol::socket_paths::{SOCKET_NAME, SYSTEM_RUNTIME_DIR, UserRuntimeDir};
use nix::unistd::geteuid;

use super::error::ConfigProblem;
use super::layers::Layers;
use super::temporary_dir::user_temporary_dir;
use super::value_type::TypedValue;

/// Reads an environment variable.
pub(super) type ReadVariable<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// Directories in which a system's escherd looks for its configuration, in this order.
const SYSTEM_CONFIG_DIRS: [&str; 3] = ["/etc/escher", SYSTEM_RUNTIME_DIR, "/usr/lib/escher"];

/// Path of the installed launcher.
const INSTALLED_LAUNCHER: &str = "/usr/lib/escher/escher-launcher";

/// Name of the launcher's program.
const LAUNCHER_NAME: &str = "escher-launcher";

/// The group of the system's socket.
const SOCKET_GROUP: &str = "escher";

/// The kinds of installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Installation {
    /// escherd for the whole host.
    System,
    /// escherd of one user.
    User,
    /// An engine embedded in another program.
    Embedded,
}

impl Installation {
    /// Lists the directories with configuration files, the most important first.
    pub(super) fn config_dirs(self, variable: ReadVariable<'_>) -> Vec<PathBuf> {
        match self {
            Installation::System => SYSTEM_CONFIG_DIRS.map(PathBuf::from).to_vec(),
            Installation::User => user_dir(variable, "XDG_CONFIG_HOME", ".config")
                .map(|dir| dir.join("escher"))
                .into_iter()
                .collect(),
            Installation::Embedded => Vec::new(),
        }
    }

    /// Sets the defaults of this installation where no source has set a value. Returns a problem
    /// for each directory that has no default.
    pub(super) fn add_defaults(
        self,
        layers: &mut Layers,
        variable: ReadVariable<'_>,
    ) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let (runtime, state) = match self {
            Installation::System => (SYSTEM_RUNTIME_DIR.into(), Some("/var/lib/escher".into())),
            Installation::Embedded => {
                let dir = user_temporary_dir();
                (dir.join("run"), Some(dir.join("state")))
            }
            Installation::User => (
                UserRuntimeDir::of(geteuid().as_raw(), variable).path,
                user_dir(variable, "XDG_STATE_HOME", ".local/state").map(|dir| dir.join("escher")),
            ),
        };
        let runtime = path_or_default(layers, "daemon.runtime_dir", Some(runtime));
        let socket = runtime.map(|dir| dir.join(SOCKET_NAME));
        path_or_default(layers, "daemon.socket", socket);
        let state = path_or_default(layers, "daemon.state_dir", state);
        if state.is_none() {
            let explanation = "not set; set it, or give the directory with --state-dir";
            problems.push(ConfigProblem::new("XDG_STATE_HOME", explanation));
        }
        let logs = match self {
            Installation::System => Some("/var/log/escher".into()),
            Installation::User => state.map(|state| state.join("logs")),
            Installation::Embedded => Some(user_temporary_dir()),
        };
        path_or_default(layers, "execution.log_dir", logs);
        path_or_default(layers, "daemon.launcher", Some(default_launcher()));
        // A user's own socket needs no group, and only root could give it one.
        if self == Installation::System
            && geteuid().is_root()
            && layers.get("daemon.socket_group").is_none()
        {
            let group = TypedValue::Text(SOCKET_GROUP.into());
            layers.set_default("daemon.socket_group", group);
        }
        problems
    }
}

/// Returns the path that the setting `name` has. If it has none, sets `default`.
fn path_or_default(
    layers: &mut Layers,
    name: &'static str,
    default: Option<PathBuf>,
) -> Option<PathBuf> {
    if let Some(setting) = layers.get(name)
        && let TypedValue::Text(path) = &setting.value
    {
        return Some(path.into());
    }
    let path = default?;
    layers.set_default(name, TypedValue::Text(path.clone().into()));
    Some(path)
}

/// Returns a directory of the XDG base directory specification, which ignores relative paths.
fn user_dir(variable: ReadVariable<'_>, name: &str, below_home: &str) -> Option<PathBuf> {
    let home = || Some(absolute(variable, "HOME")?.join(below_home));
    absolute(variable, name).or_else(home)
}

fn absolute(variable: ReadVariable<'_>, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    path.is_absolute().then_some(path)
}

/// Returns the launcher beside this program, else the installed one.
fn default_launcher() -> PathBuf {
    let program = std::env::current_exe().ok();
    program
        .map(|program| program.with_file_name(LAUNCHER_NAME))
        .filter(|beside| beside.exists())
        .unwrap_or_else(|| Path::new(INSTALLED_LAUNCHER).to_owned())
}
