//! Starting commands and supervising them.
//!
//! As a program (`main.rs`) this crate is the *launcher*, which forks *shims* ahead of need; the
//! *shim*, which owns one command at a time from its start to its exit report; and the *keeper*,
//! the main process of a service, which ensures that there is always a launcher. As a library it is
//! what escherd shares with them: the messages ([`ipc::wire`]), the sockets that carry them
//! ([`ipc::packet`]) and by which shims are found again ([`ipc::shim_socket`]), the files that
//! commands leave behind ([`ipc::log_index`], [`ipc::exit_record`]), and safe functions for system
//! calls that escherd, which forbids unsafe code, cannot make itself ([`os::peer_credentials`],
//! [`os::kernel_support`], [`os::socket_activation`]).
//!
//! The unsafe code of the project is in the private module `sys`, and at the calls of its unsafe
//! functions: the fork and the start of [`launcher`], clone(2) and the child's system calls in
//! `shim`, and systemd's descriptors in [`os::socket_activation`].

pub mod ipc;
pub mod keeper;
pub mod launcher;
pub mod os;
mod shim;
mod sys;

pub use sys::WipingAllocator;

/// The text of `--help`, from which the manual page is made as well.
pub const HELP: &str = include_str!("help.txt");
