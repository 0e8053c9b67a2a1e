//! Kills escherd, its launcher and its shims at any instant, again and again, and compares what clients
//! were answered with what commands did.
//!
//! A [`plan::Cycle`] is made from a seed: executions of every kind, and kills at random instants, some of
//! them inside a system call that writes the store or a log. Cycles of one *round* share the directories of
//! one escherd. After each cycle, once its clients have their answers, [`check`] compares. At the end of a
//! round nothing may be left: no process, no socket, no exit record.
//!
//! `cargo run --release -p escher-tests --bin crashtest -- --cycles 100` runs it for long; the end-to-end
//! tests run a few cycles.

mod check;
mod client_log;
mod injection;
mod plan;

mod scenario;

use std::fmt;
use std::time::{Duration, Instant};

use plan::Cycle;
use scenario::CrashScenario;

pub use plan::Targets;

/// How long a cycle may take. It takes a second or two on an idle machine.
const CYCLE_DEADLINE: Duration = Duration::from_secs(300);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct CrashtestSettings {
    /// Seed of the first cycle. The same seed makes the same plans.
    pub seed: u64,
    /// Number of cycles.
    pub cycles: u64,
    /// Cycles that share one set of directories.
    pub cycles_per_round: u64,
    /// What is killed.
    pub targets: Targets,
    /// Whether `store.durability` is `"power"`; else it is `"crash"`.
    pub power: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Cycles.
    pub cycles: u64,
    /// Kills of escherd at a random time.
    pub escherd_kills: u64,
    /// Kills of escherd inside a write to its store.
    pub escherd_injections: u64,
    /// Kills of shims at a random time.
    pub shim_kills: u64,
    /// Kills of shims inside a write to a log or its index.
    pub shim_injections: u64,
    /// Kills of the launcher.
    pub launcher_kills: u64,
    /// Executions that were acknowledged.
    pub executions: u64,
    /// Of these, lost ones, each with a killed shim of its own.
    pub lost: u64,
    /// Bytes of output that were compared.
    pub output_bytes: u64,
}

/// Runs all cycles. Panics at the first violation, after printing how to repeat its cycle.
pub fn run(settings: CrashtestSettings, mut progress: impl FnMut(&Statistics)) -> Statistics {
    let mut statistics = Statistics::default();
    let mut next = 0;
    while next < settings.cycles {
        let mut scenario = CrashScenario::new(settings.power);
        let end = settings.cycles.min(next + settings.cycles_per_round.max(1));
        while next < end {
            let seed = settings.seed.wrapping_add(next);
            let on_panic = RepeatHint { seed, settings };
            let cycle = Cycle::new(seed, settings.targets);
            scenario.play(&cycle, &mut statistics);
            drop(on_panic);
            next += 1;
            statistics.cycles = next;
            progress(&statistics);
        }
        scenario.finish();
    }
    statistics
}

/// Prints how to repeat a cycle, if it is dropped by its panic.
struct RepeatHint {
    seed: u64,
    settings: CrashtestSettings,
}

impl Drop for RepeatHint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let RepeatHint { seed, settings } = self;
            let CrashtestSettings { targets, power, .. } = settings;
            let power = if *power { " --power" } else { "" };
            eprintln!(
                "the cycle that failed: cargo run --release -p escher-tests --bin crashtest -- \
                 --seed {seed} --cycles 1 --kill {targets}{power}"
            );
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cycles; killed: escherd {} (and {} inside a commit), shims {} (and {} inside an append), \
             launcher {}; {} executions, {} of them lost with their shims; {} MB of output compared",
            self.cycles,
            self.escherd_kills,
            self.escherd_injections,
            self.shim_kills,
            self.shim_injections,
            self.launcher_kills,
            self.executions,
            self.lost,
            self.output_bytes / 1_000_000,
        )
    }
}

/// Seconds since `start`, for progress reports.
#[must_use]
pub fn seconds_since(start: Instant) -> u64 {
    start.elapsed().as_secs()
}
