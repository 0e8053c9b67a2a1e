//! Signals as events: blocked, and read from a descriptor (signalfd(2)).

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that keeper, launcher and shims hear.
const HEARD: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP];

/// Signals that have arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signals {
    /// SIGCHLD: a child has ended.
    pub(crate) child: bool,
    /// SIGTERM: everything is to end.
    pub(crate) term: bool,
    /// SIGHUP, of which each makes its own.
    pub(crate) hangup: bool,
}

/// What is blocked beside those that are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nothing.
    Unblocked,
    /// Everything.
    Blocked,
}

/// Where the signals come that are heard from now on.
///
/// # Errors
/// Those of signalfd(2).
pub(crate) fn listen(others: Others) -> io::Result<SignalFd> {
    let mut heard = SigSet::empty();
    for signal in HEARD {
        heard.add(signal);
    }
    let blocked = match others {
        Others::Unblocked => heard,
        Others::Blocked => SigSet::all(),
    };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&heard, flags)?)
}

/// Those that have arrived since the last time.
pub(crate) fn take(from: &SignalFd) -> Signals {
    let mut signals = Signals::default();
    while let Ok(Some(signal)) = from.read_signal() {
        match i32::try_from(signal.ssi_signo) {
            Ok(libc::SIGCHLD) => signals.child = true,
            Ok(libc::SIGTERM) => signals.term = true,
            Ok(libc::SIGHUP) => signals.hangup = true,
            _ => {}
        }
    }
    signals
}
