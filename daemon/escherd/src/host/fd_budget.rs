//! How escherd divides the file descriptors that it may have, so that whatever comes, it can still take a
//! connection to refuse it, and write down what has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::server::ROOT_RESERVE;

/// For what is always there: the store and its readers, the launcher, the sockets, those who fetch metrics, the
/// event loop, the log.
const FIXED: u64 = 64;

/// Shims that may be there beyond those that run something.
const SPARE_SHIMS: u64 = 16;

/// Descriptors that an open log takes: its own and the index's.
const PER_LOG: u64 = 2;

/// What the descriptors are enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Executions at once: each takes the socket to its shim.
    pub executions: usize,
    /// Connections, without those that are kept for root.
    pub connections: usize,
    /// Logs that are read at once.
    pub logs: usize,
}

/// The division that is in force.
#[derive(Debug)]
pub struct Shares {
    open_logs: Arc<Semaphore>,
    now: Mutex<Division>,
}

#[derive(Debug, Clone, Copy)]
struct Division {
    wanted_connections: usize,
    budget: Budget,
}

impl Shares {
    /// Divides for so many executions and connections.
    #[must_use]
    pub fn new(executions: usize, connections: usize) -> Self {
        let budget = divide(executions, connections);
        Shares {
            open_logs: Arc::new(Semaphore::new(budget.logs)),
            now: Mutex::new(Division {
                wanted_connections: connections,
                budget,
            }),
        }
    }

    /// What there is for whom.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.now().budget
    }

    /// How many connections were asked for.
    #[must_use]
    pub fn wanted_connections(&self) -> usize {
        self.now().wanted_connections
    }

    /// Leave to open logs: a permit for each.
    #[must_use]
    pub fn open_logs(&self) -> Arc<Semaphore> {
        Arc::clone(&self.open_logs)
    }

    /// Divides anew; `connections` are as many as before unless they are given. Logs that are being read are read to
    /// their end.
    pub fn change(&self, executions: usize, connections: Option<usize>) -> Budget {
        let mut now = self.now();
        let wanted_connections = connections.unwrap_or(now.wanted_connections);
        let budget = divide(executions, wanted_connections);
        match budget.logs.checked_sub(now.budget.logs) {
            Some(more) => self.open_logs.add_permits(more),
            None => drop(self.open_logs.forget_permits(now.budget.logs - budget.logs)),
        }
        *now = Division {
            wanted_connections,
            budget,
        };
        budget
    }

    fn now(&self) -> MutexGuard<'_, Division> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the limit to what the host allows, and divides it.
fn divide(executions: usize, connections: usize) -> Budget {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    let limit = limit.unwrap_or_else(|error| {
        warn!(%error, "the limit of open files cannot be raised");
        getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |limits| limits.0)
    });
    let budget = plan(limit, executions, connections);
    for (what, wanted, granted) in [
        ("executions at once", executions, budget.executions),
        ("connections", connections, budget.connections),
    ] {
        if granted < wanted {
            warn!(
                limit,
                wanted, granted, "too few open files are allowed for so many {what}"
            );
        }
    }
    budget
}

fn plan(limit: u64, executions: usize, connections: usize) -> Budget {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let count = |number: usize| number as u64;
    let rest = limit.saturating_sub(FIXED + SPARE_SHIMS + count(ROOT_RESERVE));
    // Nobody gets less than one, and nobody takes so much that nothing is left for the others.
    let executions = count(executions).min(rest / 4).max(1);
    let rest = rest.saturating_sub(executions);
    let connections = count(connections).min(rest / 2).max(1);
    // A result reads two at once.
    let logs = (rest.saturating_sub(connections) / PER_LOG).max(2);
    Budget {
        executions: size(executions),
        connections: size(connections),
        logs: size(logs).min(Semaphore::MAX_PERMITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_without_and_together_they_fit() {
        for limit in [0, 64, 100, 256, 1024, 4096, 524_288] {
            for (executions, connections) in [(1, 1), (100, 4096), (5000, 100_000)] {
                let budget = plan(limit, executions, connections);
                assert!(budget.executions >= 1 && budget.connections >= 1 && budget.logs >= 2);
                assert!(budget.executions <= executions && budget.connections <= connections);
                let sizes = [ROOT_RESERVE, budget.executions, budget.connections];
                let taken = sizes.into_iter().sum::<usize>() as u64
                    + budget.logs as u64 * PER_LOG
                    + FIXED
                    + SPARE_SHIMS;
                assert!(taken <= limit.max(104), "{budget:?} of {limit}");
            }
        }
        let usual = plan(524_288, 100, 4096);
        assert_eq!((usual.executions, usual.connections), (100, 4096));
    }
}
