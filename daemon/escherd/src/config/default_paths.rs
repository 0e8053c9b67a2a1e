//! Where things are when nobody says so: that depends on what kind of escher this is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::error::Fault;
use super::layers::Layers;
use super::value_type::Given;

/// A look into the environment.
pub(super) type Variables<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// Where a system's escherd looks for its configuration, in this order.
const SYSTEM_CONFIG_DIRS: [&str; 3] = ["/etc/escher", "/run/escher", "/usr/lib/escher"];

/// Where the launcher is installed.
const INSTALLED_LAUNCHER: &str = "/usr/lib/escher/escher-launcher";

/// Name of the launcher's program.
const LAUNCHER_NAME: &str = "escher-launcher";

/// The kinds of escher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Installation {
    /// escherd for the whole host.
    System,
    /// escherd of one user.
    User,
    /// The engine inside of another program.
    Library,
}

impl Installation {
    /// The directories with configuration files, the first of them first.
    pub(super) fn config_dirs(self, variable: Variables<'_>) -> Vec<PathBuf> {
        match self {
            Installation::System => SYSTEM_CONFIG_DIRS.map(PathBuf::from).to_vec(),
            Installation::User => user_dir(variable, "XDG_CONFIG_HOME", ".config")
                .map(|dir| dir.join("escher"))
                .into_iter()
                .collect(),
            Installation::Library => Vec::new(),
        }
    }

    /// Completes what nobody has said. Returns what cannot be known.
    pub(super) fn complete(self, layers: &mut Layers, variable: Variables<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut unknown = |variable: &str, flag: &str| {
            let right = format!("not set; set it, or name the directory with {flag}");
            faults.push(Fault::new(variable, right));
        };
        let (runtime, state) = match self {
            Installation::System => (Some("/run/escher".into()), Some("/var/lib/escher".into())),
            Installation::Library => (
                Some(library_dir().join("run")),
                Some(library_dir().join("state")),
            ),
            Installation::User => (
                absolute(variable, "XDG_RUNTIME_DIR").map(|dir| dir.join("escher")),
                user_dir(variable, "XDG_STATE_HOME", ".local/state").map(|dir| dir.join("escher")),
            ),
        };
        match settle(layers, "daemon.runtime_dir", runtime) {
            Some(dir) => _ = settle(layers, "daemon.socket", Some(dir.join("escherd.sock"))),
            None => unknown("XDG_RUNTIME_DIR", "--runtime-dir"),
        }
        let state = settle(layers, "daemon.state_dir", state);
        if state.is_none() {
            unknown("XDG_STATE_HOME", "--state-dir");
        }
        let logs = match self {
            Installation::System => Some("/var/log/escher".into()),
            Installation::User => state.map(|state| state.join("logs")),
            Installation::Library => Some(library_dir()),
        };
        settle(layers, "execution.log_dir", logs);
        settle(layers, "daemon.launcher", Some(default_launcher()));
        // A user's own socket needs no group, and can't be given one.
        if self == Installation::System
            && geteuid().is_root()
            && layers.get("daemon.socket_group").is_none()
        {
            layers.hold_default("daemon.socket_group", Given::Text("escher".into()));
        }
        faults
    }
}

/// The path that `name` is set to, else `otherwise`, which is then its default.
fn settle(layers: &mut Layers, name: &'static str, otherwise: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(held) = layers.get(name)
        && let Given::Text(path) = &held.value
    {
        return Some(path.into());
    }
    let path = otherwise?;
    layers.hold_default(name, Given::Text(path.clone().into()));
    Some(path)
}

/// The temporary folder of the engines inside of this user's programs.
pub(super) fn library_dir() -> PathBuf {
    // A relative TMPDIR would be another place for each program.
    let temporary = Some(std::env::temp_dir()).filter(|dir| dir.is_absolute());
    let temporary = temporary.unwrap_or_else(|| "/tmp".into());
    temporary.join(format!("escher-executions-{}", geteuid()))
}

/// A directory of the XDG base directory specification, which has paths that are not absolute ignored.
fn user_dir(variable: Variables<'_>, name: &str, under_home: &str) -> Option<PathBuf> {
    let home = || Some(absolute(variable, "HOME")?.join(under_home));
    absolute(variable, name).or_else(home)
}

fn absolute(variable: Variables<'_>, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    path.is_absolute().then_some(path)
}

/// Beside this program, else where it is installed.
fn default_launcher() -> PathBuf {
    let program = std::env::current_exe().ok();
    program
        .map(|program| program.with_file_name(LAUNCHER_NAME))
        .filter(|beside| beside.exists())
        .unwrap_or_else(|| Path::new(INSTALLED_LAUNCHER).to_owned())
}
