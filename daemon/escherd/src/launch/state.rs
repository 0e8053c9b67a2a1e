//! The launcher of the moment, for whoever asks about it.

use escher_launcher::ipc::wire::Abilities;

/// A launcher that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LauncherState {
    /// Its process id.
    pub pid: u32,
    /// What it can do.
    pub abilities: Abilities,
}
