//! What escherctl costs as a process, beside programs that do less or the same: time and page faults.
//!
//! All take turns, one run each, so that the load of the machine is the same for all. The medians are printed, and
//! the ratios to the program that each is measured by: `/bin/true`, and tsp(1) of task-spooler. escherctl is a copy, as an
//! installed program is: of a file that a linker has written, less is mapped by each page fault.
//!
//! `cargo build --release -p escherd -p escher-launcher && cargo build --release -p escherctl && cargo bench -p
//! escher-tests --bench programs`

use std::process::{Command, Stdio};
use std::time::Duration;

use escher_tests::{Daemon, RunCost, escherctl, run_cost};

const ROUNDS: usize = 400;

/// How often the list of task-spooler's finished jobs is emptied, which it reads at each submission.
const ROUNDS_PER_LIST: usize = 10;

/// A program, and the row that it is compared with.
struct Row {
    name: &'static str,
    command: Command,
    compared_with: &'static str,
    target: Option<f64>,
    runs: Vec<RunCost>,
}

impl Row {
    fn new(name: &'static str, command: Command) -> Self {
        Row {
            name,
            command,
            compared_with: name,
            target: None,
            runs: Vec::new(),
        }
    }

    fn at_most(mut self, target: f64, other: &'static str) -> Self {
        self.target = Some(target);
        self.compared_with = other;
        self
    }

    fn time(&self) -> Duration {
        median(self.runs.iter().map(|run| run.time))
    }

    fn least_time(&self) -> Duration {
        let times = self.runs.iter().map(|run| run.time);
        times.min().unwrap_or_default()
    }

    fn page_faults(&self) -> u64 {
        median(self.runs.iter().map(|run| run.page_faults))
    }
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// task-spooler with a server of its own, which ends with this.
struct Spooler {
    socket: std::path::PathBuf,
}

impl Spooler {
    /// Starts one; `None` where it is not installed.
    fn start(daemon: &Daemon) -> Option<Self> {
        let socket = daemon.home().work().join("tsp.sock");
        let spooler = Spooler { socket };
        let started = spooler.command(&["-nf", "true"]).status();
        started.is_ok().then_some(spooler)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tsp");
        command.args(arguments).env("TS_SOCKET", &self.socket);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        let _ = self.command(&["-K"]).status();
    }
}

fn main() {
    println!("before: {}", escher_tests::load());
    let daemon = Daemon::start();
    let program = daemon.home().share(&escherctl());
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments);
        command.env("ESCHER_SOCKET", daemon.home().socket());
        command
    };
    let spooler = Spooler::start(&daemon);
    let mut rows = vec![
        Row::new("/bin/true", Command::new("/bin/true")),
        Row::new("escherctl --version", ctl(&["--version"])).at_most(1.1, "/bin/true"),
    ];
    match &spooler {
        Some(spooler) => rows.extend([
            Row::new("tsp -f true", spooler.command(&["-nf", "true"])),
            Row::new("escherctl run", ctl(&["run", "--", "true"])).at_most(1.0, "tsp -f true"),
            Row::new("tsp true", spooler.command(&["-n", "true"])),
            Row::new("escherctl submit", ctl(&["submit", "--", "true"])).at_most(1.3, "tsp true"),
        ]),
        None => {
            println!("tsp: not installed; nothing to compare `run` and `submit` with");
            rows.extend([
                Row::new("escherctl run", ctl(&["run", "--", "true"])),
                Row::new("escherctl submit", ctl(&["submit", "--", "true"])),
            ]);
        }
    }
    for row in &mut rows {
        // The libraries of cargo's environment would be looked through by the dynamic programs alone.
        row.command.env_remove("LD_LIBRARY_PATH");
        // Warms up caches and shims.
        let _ = run_cost(&mut row.command);
    }
    for round in 0..ROUNDS {
        for row in &mut rows {
            row.runs.push(run_cost(&mut row.command));
        }
        if let Some(spooler) = spooler.as_ref().filter(|_| round % ROUNDS_PER_LIST == 0) {
            let _ = spooler.command(&["-C"]).status();
        }
    }
    drop(spooler);
    let _ = daemon.stop();
    println!("after: {}\n", escher_tests::load());
    print_table(&rows);
}

fn print_table(rows: &[Row]) {
    println!("medians of {ROUNDS} runs of each, in turns\n");
    println!(
        "{:<21} {:>7} {:>9} {:>12}  ratio",
        "", "µs", "least µs", "page faults"
    );
    for row in rows {
        let other = rows.iter().find(|other| other.name == row.compared_with);
        let ratio = other.map_or(1.0, |other| row.time().div_duration_f64(other.time()));
        let comparison = row.target.map(|target| {
            let other = row.compared_with;
            format!("{ratio:.2} of {other}, at most {target:.1} is wanted")
        });
        println!(
            "{:<21} {:>7} {:>9} {:>12}  {}",
            row.name,
            row.time().as_micros(),
            row.least_time().as_micros(),
            row.page_faults(),
            comparison.unwrap_or_default()
        );
    }
}
