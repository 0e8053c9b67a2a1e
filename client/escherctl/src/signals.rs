//! SIGINT, SIGTERM and SIGHUP, as wishes to end.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Wishes to end, as they arrive.
pub(crate) struct Interrupts {
    sources: Vec<(i32, Signal)>,
}

impl Interrupts {
    /// From now on these signals do not end the process. A SIGHUP that is ignored stays so: nohup(1)
    /// counts on it.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !ignores_hangup(&status) {
            kinds.push(SignalKind::hangup());
        }
        let sources: io::Result<Vec<_>> = kinds
            .into_iter()
            .map(|kind| Ok((kind.as_raw_value(), signal(kind)?)))
            .collect();
        Ok(Interrupts {
            sources: sources.map_err(|error| Failure::system("cannot handle signals", error))?,
        })
    }

    /// The number of the next one. Cancel safe.
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

/// By the mask in a process's status file (proc_pid_status(5)): SIGHUP, number 1, is its lowest bit.
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
    fn an_ignored_hangup_is_read_from_the_status_file() {
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001002")));
        assert!(!ignores_hangup(""));
    }
}
