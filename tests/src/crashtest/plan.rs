//! What happens in a cycle.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Random;

/// Which programs are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// escherd.
    pub escherd: bool,
    /// Shims, each with a command.
    pub shims: bool,
    /// The launcher.
    pub launcher: bool,
}

/// One cycle.
#[derive(Debug, Clone)]
pub(super) struct Cycle {
    pub(super) executions: Vec<PlannedExecution>,
    pub(super) kills: Vec<Kill>,
}

/// One execution.
#[derive(Debug, Clone)]
pub(super) struct PlannedExecution {
    /// Its key, which is also the name of the file in which the command records its run.
    pub(super) key: String,
    /// When it is submitted, after the start of the cycle.
    pub(super) after: Duration,
    /// Number of lines that it writes.
    pub(super) lines: u64,
    /// Pause after every ten of them.
    pub(super) pause_ms: u64,
    /// Number of bytes of standard input that it copies to standard output.
    pub(super) stdin: Option<u64>,
    /// Its exit status.
    pub(super) code: i32,
    /// Whether it runs until it is ended from outside.
    pub(super) stays: bool,
    /// What ends it, unless a kill does.
    pub(super) end: PlannedEnd,
}

/// What ends an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlannedEnd {
    ByItself,
    TimedOut { after_ms: u64 },
    Cancelled { after: Duration, kill: bool },
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    /// When, after the kill before it.
    pub(super) after: Duration,
    pub(super) victim: Victim,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Victim {
    Escherd,
    /// In this write to the store from then on.
    EscherdInCommit(u64),
    Shim(u64),
    /// In this write to a log from then on.
    ShimInAppend(u64, u64),
    Launcher,
}

impl Cycle {
    pub(super) fn new(seed: u64, targets: Targets) -> Self {
        let mut random = Random::new(seed);
        let count = 4 + random.below(8);
        let executions = (0..count)
            .map(|index| PlannedExecution::new(seed, index, &mut random))
            .collect();
        let kills = (0..=random.below(3))
            .map(|_| Kill::new(targets, &mut random))
            .collect();
        Cycle { executions, kills }
    }
}

impl PlannedExecution {
    fn new(seed: u64, index: u64, random: &mut Random) -> Self {
        let millis = |random: &mut Random, bound| Duration::from_millis(random.below(bound));
        let end = match random.below(8) {
            0 => PlannedEnd::TimedOut {
                after_ms: 50 + random.below(400),
            },
            1 | 2 => PlannedEnd::Cancelled {
                after: millis(random, 300),
                kill: random.once_in(2),
            },
            _ => PlannedEnd::ByItself,
        };
        PlannedExecution {
            key: format!("{seed:016x}-{index}"),
            after: millis(random, 150),
            lines: match random.below(4) {
                0 => 0,
                1 => random.below(20_000),
                _ => random.below(200),
            },
            pause_ms: random.below(4),
            stdin: random.once_in(4).then(|| random.below(300_000)),
            code: i32::try_from(random.below(4)).unwrap_or(0),
            stays: end != PlannedEnd::ByItself && random.once_in(2),
            end,
        }
    }
}

impl Kill {
    fn new(targets: Targets, random: &mut Random) -> Self {
        let mut choices = Vec::new();
        if targets.escherd {
            choices.extend([
                Victim::Escherd,
                Victim::Escherd,
                Victim::EscherdInCommit(1 + random.below(40)),
            ]);
        }
        if targets.shims {
            choices.push(Victim::Shim(random.number()));
            choices.push(Victim::ShimInAppend(random.number(), 1 + random.below(30)));
        }
        if targets.launcher {
            choices.push(Victim::Launcher);
        }
        let choice = random.below(choices.len() as u64);
        Kill {
            after: Duration::from_millis(random.below(250)),
            victim: choices[usize::try_from(choice).expect("a few")],
        }
    }
}

impl FromStr for Targets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut targets = Targets {
            escherd: false,
            shims: false,
            launcher: false,
        };
        for word in text.split(',') {
            match word {
                "escherd" => targets.escherd = true,
                "shims" => targets.shims = true,
                "launcher" => targets.launcher = true,
                other => return Err(format!("{other:?} is none of escherd, shims, launcher")),
            }
        }
        Ok(targets)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.escherd, "escherd"),
            (self.shims, "shims"),
            (self.launcher, "launcher"),
        ];
        let words: Vec<&str> = all.iter().filter(|row| row.0).map(|row| row.1).collect();
        f.write_str(&words.join(","))
    }
}
