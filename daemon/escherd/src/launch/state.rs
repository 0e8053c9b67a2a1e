//! The launcher of the moment, for whoever asks about it.

use escher_launcher::ipc::wire::Abilities;

/// A launcher that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LauncherState {
    /// Its process id.
    pub pid: u32,
    /// The version of the messages that it speaks.
    pub wire_version: u16,
    /// What it has said of itself; `None`: nothing, as those before version 4.
    pub abilities: Option<Abilities>,
}
