//! Starting commands, and what remains of them.
//!
//! As a program (`main.rs`) this crate is the *launcher*, which forks *shims* ahead of need, the shim, which owns one
//! command at a time from its start to its exit report, and the *keeper*, which is the main process of a service and
//! always has a launcher. As a library it is what
//! escherd shares with them: the messages between the three ([`wire`]), the sockets that carry these
//! ([`packet`]) and by which shims are found again ([`shims`]), the files that a command leaves behind
//! ([`index`], [`exit_record`]), and safe faces of system calls that escherd, which forbids unsafe code,
//! cannot make itself ([`peer`], [`kernel`]).
//!
//! The unsafe code of the project is in [`sys`], which is private, and at the calls of what stays unsafe to call:
//! the fork in [`launcher`], clone and what follows it in `shim`, and systemd's descriptor in [`activation`].

pub mod activation;
mod cgroup;
mod deadline;
mod descendants;
mod door;
pub mod exit_record;
pub mod index;
pub mod keeper;
pub mod kernel;
pub mod launcher;
pub mod packet;
pub mod peer;
mod shim;
pub mod shims;
mod signals;
mod sys;
pub mod wire;

/// What the launcher's program says of itself, for `--help` and its manual page.
pub const HELP: &str = include_str!("help.txt");
