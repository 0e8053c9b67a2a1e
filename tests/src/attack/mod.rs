//! Hostile users beside a good one.
//!
//! Each attacker is a process of a user of its own. It makes [`attacks`](attacker) in an order that its seed
//! decides, as fast as escherd lets it, until the good user has done its work. Whatever they do, every result of
//! the good user must be right, escherd must live on, and no attacker may see or end what belongs to others.
//!
//! `cargo run --release -p escher-tests --bin attack -- --runs 1000` runs it for long; the end-to-end tests run it
//! briefly.

mod attacker;
mod good_user;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use escher_testkit::DEADLINE;

use crate::{Daemon, ProgramOutput, RunningProgram, attack_program, child_program};

pub use attacker::attack_until_stdin_ends;

/// Uid of the good user; the attackers have those that follow. None of them has a passwd entry.
const GOOD_USER: u32 = 61_000;

/// The host that they share. Small, so that there is something to fight for.
const CONFIG: &str = "\
    [daemon]\nsocket_mode = \"0666\"\nmax_connections = 400\nmax_connections_per_user = 100\n\
    [execution]\nmax_concurrent_executions = 12\nmax_pending_executions = 500\nmax_log_bytes = 1048576\n";

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct AttackSettings {
    /// Seed of the first attacker; the next ones have the numbers after it.
    pub seed: u64,
    /// Number of attackers.
    pub attackers: u32,
    /// How many commands the good user runs.
    pub runs: u64,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct AttackStatistics {
    /// Commands of the good user, each with the right result.
    pub runs: u64,
    /// Number of attacks of each kind, of all attackers.
    pub attacks: BTreeMap<String, u64>,
}

impl fmt::Display for AttackStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} right results beside", self.runs)?;
        for (kind, count) in &self.attacks {
            write!(f, " {count} × {kind},")?;
        }
        Ok(())
    }
}

/// Runs it, as root. Panics at the first wrong result.
pub fn run(settings: AttackSettings) -> AttackStatistics {
    let daemon = Daemon::with_config(CONFIG);
    let program = daemon.home().share(&attack_program());
    let mut attackers: Vec<Attacker> = (0..settings.attackers)
        .map(|number| Attacker::start(&daemon, &program, number, settings.seed))
        .collect();
    // None of them is late.
    for attacker in &mut attackers {
        let (kind, _) = attacker.read_line().expect("an attacker makes attacks");
        assert_eq!(kind, "ready");
    }
    let mut statistics = AttackStatistics::default();
    good_user::work(&daemon, GOOD_USER, settings.runs);
    statistics.runs = settings.runs;
    for attacker in attackers {
        attacker.stop(&mut statistics.attacks);
    }
    // It is still the same escherd, and serves.
    let info = daemon.ctl().json(["info"]);
    assert_eq!(info["pid"], daemon.pid().as_raw());
    statistics
}

struct Attacker {
    program: RunningProgram,
    lines: BufReader<ProgramOutput>,
}

impl Attacker {
    fn start(daemon: &Daemon, program: &Path, number: u32, seed: u64) -> Self {
        let uid = GOOD_USER + 1 + number;
        let mut command = Command::new(child_program());
        command
            .args(["run-as", &format!("{uid}:{uid}:")])
            .arg(program)
            .arg("--attack")
            .arg(daemon.home().socket())
            .arg(seed.wrapping_add(u64::from(number)).to_string())
            .current_dir("/")
            .stdin(Stdio::piped());
        let mut program = RunningProgram::spawn_unread(command, DEADLINE);
        let lines = BufReader::new(program.stdout());
        Attacker { program, lines }
    }

    /// Reads a word and a number; `None` at the end.
    fn read_line(&mut self) -> Option<(String, u64)> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it writes or ends");
        let (kind, count) = line.trim().split_once(' ')?;
        Some((kind.to_owned(), count.parse().expect("a number")))
    }

    /// Stops it, and adds what it has done. It must not have failed: it checks what it sees.
    fn stop(mut self, attacks: &mut BTreeMap<String, u64>) {
        drop(self.program.stdin());
        while let Some((kind, count)) = self.read_line() {
            *attacks.entry(kind).or_default() += count;
        }
        let _ = self.program.wait().expect(0);
    }
}
