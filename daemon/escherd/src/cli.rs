//! escherd's arguments.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Runs commands for people and programs on this host, each as the user who asked.
///
/// Stays in the foreground and logs to standard error (to the journal when systemd starts it).
#[derive(Debug, Clone, Parser)]
#[command(name = "escherd", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Read this file and no other; TOML, or JSON if its name ends in .json
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Begin with the figures of this profile: production, development, testing, high-volume or
    /// memory-constrained; goes over the one that files name
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Serve the calling user from directories of its own ($XDG_RUNTIME_DIR, $XDG_STATE_HOME)
    #[arg(long)]
    pub user: bool,

    /// Listen here [default: escherd.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Directory of what goes with the host [default: /run/escher]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Directory of what stays [default: /var/lib/escher]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Directory of the commands' logs [default: /var/log/escher]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// The launcher [default: escher-launcher beside this program, else in /usr/lib/escher]
    #[arg(long, value_name = "PATH")]
    pub launcher: Option<PathBuf>,

    /// Use the launcher that listens here, a service of its own, and start none
    #[arg(long, value_name = "PATH")]
    pub launcher_socket: Option<PathBuf>,

    /// What becomes of running commands when escherd stops
    #[arg(long, value_enum, default_value_t = OnStop::Leave)]
    pub on_stop: OnStop,

    /// Read the configuration, say all that is wrong with it, and exit
    #[arg(long)]
    pub check: bool,
}

const EXAMPLES: &str = "\
Examples:
  escherd                                   serve the whole host (as root)
  escherd --user                            serve yourself
  escherd --check --config ./escher.toml    is this configuration right?";

/// What becomes of running commands when escherd stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnStop {
    /// They go on, with their timeouts and logs
    Leave,
    /// They are ended: SIGTERM, the grace period, SIGKILL
    Cancel,
}
