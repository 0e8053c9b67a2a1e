//! Starting commands, and what remains of them.
//!
//! As a program (`main.rs`) this crate is the *launcher*, which forks *shims* ahead of need, the shim, which owns one
//! command at a time from its start to its exit report, and the *keeper*, which is the main process of a service and
//! always has a launcher. As a library it is what
//! escherd shares with them: the messages between the three ([`ipc::wire`]), the sockets that carry these
//! ([`ipc::packet`]) and by which shims are found again ([`ipc::shim_socket`]), the files that a command leaves behind
//! ([`ipc::log_index`], [`ipc::exit_record`]), and safe faces of system calls that escherd, which forbids unsafe code,
//! cannot make itself ([`os::peer_credentials`], [`os::kernel_support`]).
//!
//! The unsafe code of the project is in [`sys`], which is private, and at the calls of what stays unsafe to call:
//! the fork in [`launcher`], clone and what follows it in `shim`, and systemd's descriptor in [`os::socket_activation`].

pub mod ipc;
pub mod keeper;
pub mod launcher;
pub mod os;
mod shim;
mod sys;

/// What the launcher's program says of itself, for `--help` and its manual page.
pub const HELP: &str = include_str!("help.txt");
