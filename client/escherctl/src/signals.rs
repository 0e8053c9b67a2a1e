//! Signals to escherctl: receiving them, and dying of one.
//!
//! They are blocked and read from a descriptor (signalfd(2)), so their dispositions stay as they were at the start: an
//! ignored signal stays ignored, and any other still has its default action where escherctl wants it.

use std::fs::File;
use std::io::{self, Read};

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use crate::failure::Failure;

/// Receives signals that would end the process.
pub(crate) struct CaughtSignals {
    source: AsyncFd<SignalFd>,
}

impl CaughtSignals {
    /// Catches those of `signals` that were not ignored at the start. Has to be called before there is
    /// another thread, and within the runtime.
    pub(crate) fn catch(signals: &[Signal]) -> Result<Self, Failure> {
        let status = own_status().unwrap_or_default();
        let caught: SigSet = signals
            .iter()
            .copied()
            .filter(|signal| !ignores(&status, *signal))
            .collect();
        CaughtSignals::open(caught).map_err(|error| Failure::system("cannot handle signals", error))
    }

    fn open(caught: SigSet) -> io::Result<Self> {
        caught.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe, for types whose descriptor may change or close; this one owns its own"
        )]
        let source = AsyncFd::new(SignalFd::with_flags(&caught, flags)?)?;
        Ok(CaughtSignals { source })
    }

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            // Fails only with the runtime, which ends with this future.
            let Ok(mut ready) = self.source.readable().await else {
                return std::future::pending().await;
            };
            match ready.get_inner().read_signal() {
                Ok(Some(received)) => {
                    let number = i32::try_from(received.ssi_signo).unwrap_or_default();
                    if let Ok(signal) = Signal::try_from(number) {
                        return signal;
                    }
                }
                _ => ready.clear_ready(),
            }
        }
    }
}

/// Ends the process by `signal`, as if it had never been caught, so that a shell sees it. Leaves no core.
/// Returns if the signal does not end it.
pub(crate) fn die_of(signal: Signal) {
    // Where a program gets the cores (core(5)), the limit does not count.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
    if raise(signal).is_ok() {
        let _ = SigSet::from(signal).thread_unblock();
    }
}

/// Reads the status of this process (proc_pid_status(5)), in one piece.
fn own_status() -> io::Result<String> {
    let mut status = String::with_capacity(4096);
    File::open("/proc/self/status")?.read_to_string(&mut status)?;
    Ok(status)
}

/// Whether a process with this status file (proc_pid_status(5)) ignores a signal.
fn ignores(status: &str, signal: Signal) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal as i32 - 1) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ignored_signals_from_the_status_file() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        for (mask, signal, expected) in [
            ("0000000000001001", Signal::SIGHUP, true),
            ("0000000000001001", Signal::SIGINT, false),
            ("0000000000001002", Signal::SIGHUP, false),
            ("0000000000001002", Signal::SIGINT, true),
            ("0000000000004000", Signal::SIGTERM, true),
        ] {
            assert_eq!(ignores(&status(mask), signal), expected, "{mask} {signal}");
        }
        assert!(!ignores("", Signal::SIGHUP));
    }
}
