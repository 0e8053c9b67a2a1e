//! Divides the file descriptors that escherd may open among their uses, so that there is always one
//! left to refuse a connection, or to record the end of an execution.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tracing::warn;

/// Connections that root may have beyond `daemon.max_connections`.
pub const ROOT_RESERVE: usize = 16;

/// Descriptors that are always in use: the store and its readers, the launcher, the sockets,
/// connections for metrics, the event loop, the log.
const FIXED: u64 = 64;

/// Shims that may be connected without an execution.
const SPARE_SHIMS: u64 = 16;

/// Descriptors of an open log: its own and the index's.
const PER_LOG: u64 = 2;

/// The maximum numbers of executions, connections and logs, which the limit on open files allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdBudget {
    /// Running executions: each takes the socket to its shim.
    pub executions: usize,
    /// Running executions of root beyond them: a tenth of their number, at least one.
    pub root_executions: usize,
    /// Connections, without those that are reserved for root.
    pub connections: usize,
    /// Logs that are open for reading.
    pub logs: usize,
}

/// The budget in force, and the permits to open logs.
#[derive(Debug)]
pub struct FdShares {
    open_logs: Arc<Semaphore>,
    current: Mutex<Division>,
}

/// A budget, with the number of connections for which it was made.
#[derive(Debug, Clone, Copy)]
struct Division {
    wanted_connections: usize,
    budget: FdBudget,
}

impl FdShares {
    /// Divides the descriptors for `executions` executions and `connections` connections.
    #[must_use]
    pub fn new(executions: usize, connections: usize) -> Self {
        let budget = divide(executions, connections);
        FdShares {
            open_logs: Arc::new(Semaphore::new(budget.logs)),
            current: Mutex::new(Division {
                wanted_connections: connections,
                budget,
            }),
        }
    }

    /// Returns the budget.
    #[must_use]
    pub fn budget(&self) -> FdBudget {
        self.current().budget
    }

    /// Returns the number of connections that are configured.
    #[must_use]
    pub fn wanted_connections(&self) -> usize {
        self.current().wanted_connections
    }

    /// Returns the permits to open logs, one for each.
    #[must_use]
    pub fn open_logs(&self) -> Arc<Semaphore> {
        Arc::clone(&self.open_logs)
    }

    /// Divides the descriptors again. `connections`: `None` keeps their number. Open logs stay
    /// open, even if they are more than the new budget allows.
    pub fn change(&self, executions: usize, connections: Option<usize>) -> FdBudget {
        let mut current = self.current();
        let wanted_connections = connections.unwrap_or(current.wanted_connections);
        let budget = divide(executions, wanted_connections);
        match budget.logs.checked_sub(current.budget.logs) {
            Some(more) => self.open_logs.add_permits(more),
            None => {
                let fewer = current.budget.logs - budget.logs;
                self.open_logs.forget_permits(fewer);
            }
        }
        *current = Division {
            wanted_connections,
            budget,
        };
        budget
    }

    fn current(&self) -> MutexGuard<'_, Division> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the limit on open files as far as the host allows, and divides it.
fn divide(executions: usize, connections: usize) -> FdBudget {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    let limit = limit.unwrap_or_else(|error| {
        warn!(%error, "cannot raise the limit on open files");
        getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |limits| limits.0)
    });
    let budget = plan(limit, executions, connections);
    for (what, wanted, granted) in [
        ("executions", executions, budget.executions),
        ("connections", connections, budget.connections),
    ] {
        if granted < wanted {
            warn!(
                limit,
                wanted, granted, "the limit on open files allows fewer {what} than are configured"
            );
        }
    }
    budget
}

/// Divides `limit` descriptors.
fn plan(limit: u64, executions: usize, connections: usize) -> FdBudget {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let count = |number: usize| number as u64;
    let rest = limit.saturating_sub(FIXED + SPARE_SHIMS + count(ROOT_RESERVE));
    // Every use gets at least one, and none gets so many that nothing is left for the others.
    let executions = count(executions).min(rest / 4).max(1);
    let root_executions = (executions / 10).max(1);
    let rest = rest.saturating_sub(executions + root_executions);
    let connections = count(connections).min(rest / 2).max(1);
    // A result reads two logs at once.
    let logs = (rest.saturating_sub(connections) / PER_LOG).max(2);
    FdBudget {
        executions: size(executions),
        root_executions: size(root_executions),
        connections: size(connections),
        logs: size(logs).min(Semaphore::MAX_PERMITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_is_at_least_one_and_together_they_fit() {
        for limit in [0, 64, 100, 256, 1024, 4096, 524_288] {
            for (executions, connections) in [(1, 1), (100, 4096), (5000, 100_000)] {
                let budget = plan(limit, executions, connections);
                assert!(budget.executions >= 1 && budget.connections >= 1 && budget.logs >= 2);
                assert!(budget.executions <= executions && budget.connections <= connections);
                let sizes = [
                    ROOT_RESERVE,
                    budget.executions,
                    budget.root_executions,
                    budget.connections,
                ];
                let used = sizes.into_iter().sum::<usize>() as u64
                    + budget.logs as u64 * PER_LOG
                    + FIXED
                    + SPARE_SHIMS;
                assert!(used <= limit.max(105), "{budget:?} of {limit}");
            }
        }
        let usual = plan(524_288, 100, 4096);
        assert_eq!((usual.executions, usual.connections), (100, 4096));
    }
}
