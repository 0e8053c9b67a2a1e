//! escherd's command line.

use std::path::{PathBuf, absolute};

use clap::Parser;

use crate::config::{LoadOptions, OnStop, PathOption};

/// Runs commands for people and programs on this host, each as the user who submits it.
///
/// Stays in the foreground and logs to standard error, or to the journal when started by systemd.
#[derive(Debug, Clone, Parser)]
#[command(name = "escherd", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Read this file and no other; TOML, or JSON if its name ends in .json
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Use the defaults of this profile: production, development, testing, high-volume,
    /// memory-constrained or host; overrides a profile that a file names. With --user, host is the
    /// default
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Serve the calling user, from that user's directories ($XDG_RUNTIME_DIR, $XDG_STATE_HOME). Without
    /// $XDG_RUNTIME_DIR, sockets are in /run/user/UID, else in a private directory below $TMPDIR or /tmp
    #[arg(long)]
    pub user: bool,

    /// Path of the socket for clients [default: escherd.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Directory of sockets and other files that need not survive a boot [default: /run/escher]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Directory of the store and other files that must survive a boot [default: /var/lib/escher]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Directory of the commands' logs [default: /var/log/escher]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Program of the launcher [default: escher-launcher beside this program, else in
    /// /usr/lib/escher]
    #[arg(long, value_name = "PATH")]
    pub launcher: Option<PathBuf>,

    /// Connect to the launcher service that listens at this path, rather than start a launcher
    #[arg(long, value_name = "PATH")]
    pub launcher_socket: Option<PathBuf>,

    /// What happens to running commands when escherd stops; a second SIGTERM kills those that it
    /// ends
    #[arg(long, value_enum, default_value_t = OnStop::Leave)]
    pub on_stop: OnStop,

    /// Validate the configuration, report all problems, and exit
    #[arg(long)]
    pub check: bool,
}

const EXAMPLES: &str = "\
Examples:
  escherd                                   serve the whole host (as root)
  escherd --user                            serve yourself
  escherd --check --config ./escher.toml    validate this configuration";

impl Arguments {
    /// Returns the arguments that the configuration depends on.
    #[must_use]
    pub fn load_options(&self) -> LoadOptions {
        // The path of a program may be relative, as in a shell.
        let launcher = self.launcher.as_ref();
        let launcher = launcher.map(|path| absolute(path).unwrap_or_else(|_| path.clone()));
        let path_options = [
            ("daemon.socket", "--socket", &self.socket),
            ("daemon.runtime_dir", "--runtime-dir", &self.runtime_dir),
            ("daemon.state_dir", "--state-dir", &self.state_dir),
            ("execution.log_dir", "--log-dir", &self.log_dir),
            ("daemon.launcher", "--launcher", &launcher),
            (
                "daemon.launcher_socket",
                "--launcher-socket",
                &self.launcher_socket,
            ),
        ];
        let path_options = path_options
            .into_iter()
            .filter_map(|(setting, option, path)| {
                Some(PathOption {
                    setting,
                    option,
                    path: path.clone()?,
                })
            });
        LoadOptions {
            user: self.user,
            file: self.config.clone(),
            profile: self.profile.clone(),
            path_options: path_options.collect(),
            on_stop: self.on_stop,
        }
    }
}
