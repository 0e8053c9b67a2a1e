//! The signals with which a person or a script ends escherctl.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Receives SIGINT, SIGTERM and SIGHUP.
pub(crate) struct TerminationSignals {
    sources: Vec<(i32, Signal)>,
}

impl TerminationSignals {
    /// Makes these signals no longer end the process. An ignored SIGHUP stays ignored: nohup(1)
    /// relies on it.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !ignores_hangup(&status) {
            kinds.push(SignalKind::hangup());
        }
        let sources: io::Result<Vec<_>> = kinds
            .into_iter()
            .map(|kind| Ok((kind.as_raw_value(), signal(kind)?)))
            .collect();
        Ok(TerminationSignals {
            sources: sources.map_err(|error| Failure::system("cannot handle signals", error))?,
        })
    }

    /// Waits for the next signal and returns its number. Cancel safe.
    pub(crate) async fn next(&mut self) -> i32 {
        poll_fn(|cx| {
            for (number, source) in &mut self.sources {
                if source.poll_recv(cx).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Reads the mask in a process's status file (proc_pid_status(5)): SIGHUP, number 1, is its lowest
/// bit.
fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_ignored_hangup_from_the_status_file() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001002")));
        assert!(!ignores_hangup(""));
    }
}
