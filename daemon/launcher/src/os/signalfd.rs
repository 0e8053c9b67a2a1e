//! Signals as events: blocked, and read from a descriptor (signalfd(2)).

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that keeper, launcher and shims handle.
const HANDLED: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP];

/// Which signals have arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signals {
    /// SIGCHLD: a child has ended.
    pub(crate) child: bool,
    /// SIGTERM: end everything.
    pub(crate) term: bool,
    /// SIGHUP, whose meaning depends on the process.
    pub(crate) hangup: bool,
}

/// Which signals are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Those that the descriptor delivers.
    Handled,
    /// All.
    All,
}

/// Blocks signals, and opens a descriptor that delivers SIGCHLD, SIGTERM and SIGHUP.
///
/// # Errors
/// Those of signalfd(2).
pub(crate) fn block_and_open(blocked: Blocked) -> io::Result<SignalFd> {
    let mut handled = SigSet::empty();
    for signal in HANDLED {
        handled.add(signal);
    }
    let mask = match blocked {
        Blocked::Handled => handled,
        Blocked::All => SigSet::all(),
    };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&handled, flags)?)
}

/// Reads the signals that have arrived since the last call.
pub(crate) fn read_pending(descriptor: &SignalFd) -> Signals {
    let mut signals = Signals::default();
    while let Ok(Some(signal)) = descriptor.read_signal() {
        match i32::try_from(signal.ssi_signo) {
            Ok(libc::SIGCHLD) => signals.child = true,
            Ok(libc::SIGTERM) => signals.term = true,
            Ok(libc::SIGHUP) => signals.hangup = true,
            _ => {}
        }
    }
    signals
}
