//! The time of a command that does nothing, from the request to its result.
//!
//! All variants take turns in one run, under the same load of the machine. The medians of the rounds are printed,
//! with their ratios to the cost of the kernel alone: posix_spawn(3), which std's `Command` uses when neither a
//! user nor a hook is set, and wait.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench start_cost`

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use escher_client::{Client, ExecutionRequest, Status};
use escher_tests::{Daemon, Keeper, connect, exec};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// The row of an escherd with a launcher under a keeper.
const IN_CGROUPS: &str = "the same, each in its cgroup";

const ROUNDS: usize = 15;
const SEQUENTIAL_RUNS: usize = 200;
const AT_ONCE: usize = 64;
const CONCURRENT_RUNS: usize = 1_000;
/// For variants that take tens of milliseconds.
const SLOW_RUNS: usize = 10;

/// The times of single runs, and of all together.
struct Round {
    each: Vec<Duration>,
    all: Duration,
}

impl Round {
    fn measure(count: usize, mut run: impl FnMut()) -> Self {
        let start = Instant::now();
        let each = (0..count)
            .map(|_| {
                let start = Instant::now();
                run();
                start.elapsed()
            })
            .collect();
        Round {
            each,
            all: start.elapsed(),
        }
    }

    fn quantile(&self, q: f64) -> f64 {
        let mut each = self.each.clone();
        each.sort_unstable();
        each[((each.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e6
    }

    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }
}

/// The medians over all rounds of one variant.
struct Summary {
    name: &'static str,
    p50: f64,
    p99: f64,
    rate: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn summary(name: &'static str, rounds: &[Round]) -> Summary {
    let over = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    Summary {
        name,
        p50: over(&|round| round.quantile(0.5)),
        p99: over(&|round| round.quantile(0.99)),
        rate: over(&Round::rate),
    }
}

/// The command with an environment like that of escher's commands. The environment that cargo gives a benchmark,
/// above all `LD_LIBRARY_PATH`, would slow down the starts of this variant alone.
fn direct() -> Command {
    let mut command = Command::new("/bin/true");
    command
        .env_clear()
        .envs([
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("HOME", "/root"),
            ("SHELL", "/bin/sh"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            (
                "ESCHER_EXECUTION_ID",
                "01920f3e-6d2c-7c31-8f35-0d6c7e9b1a42",
            ),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn run_directly() {
    assert!(direct().status().expect("/bin/true").success());
}

/// Runs commands in a thread for each that may run at once: posix_spawn(3) blocks until the program runs, so a
/// single thread could not keep the processors busy.
fn run_directly_at_once(count: usize) -> Round {
    let start = Instant::now();
    let left = AtomicUsize::new(count);
    let take = |left: usize| left.checked_sub(1);
    let each = std::thread::scope(|scope| {
        let work = || {
            let mut each = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                let start = Instant::now();
                run_directly();
                each.push(start.elapsed());
            }
            each
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    Round {
        each,
        all: start.elapsed(),
    }
}

fn request() -> ExecutionRequest {
    ExecutionRequest {
        working_dir: Some("/".into()),
        ..exec(["/bin/true"])
    }
}

async fn run_by_escher(client: &Client) {
    let submitted = client.execute(request()).await.unwrap();
    let result = client.get_result(submitted.id).await.unwrap();
    assert_eq!(result.record.status, Status::Completed);
}

async fn escher_sequential(client: &Client, count: usize) -> Round {
    let mut each = Vec::with_capacity(count);
    let begin = Instant::now();
    for _ in 0..count {
        let start = Instant::now();
        run_by_escher(client).await;
        each.push(start.elapsed());
    }
    Round {
        each,
        all: begin.elapsed(),
    }
}

async fn escher_at_once(client: &Client, count: usize) -> Round {
    let start = Instant::now();
    let timed = || async {
        let start = Instant::now();
        run_by_escher(client).await;
        start.elapsed()
    };
    let mut running: FuturesUnordered<_> = (0..AT_ONCE.min(count)).map(|_| timed()).collect();
    let mut started = running.len();
    let mut each = Vec::with_capacity(count);
    while let Some(took) = running.next().await {
        each.push(took);
        if started < count {
            started += 1;
            running.push(timed());
        }
    }
    Round {
        each,
        all: start.elapsed(),
    }
}

/// A program that runs a command and waits for it; `None` if that does not work on this host.
fn other_program(argv: &[&str]) -> Option<Command> {
    let make = || {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).env_remove("LD_LIBRARY_PATH");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    make()
        .status()
        .ok()
        .filter(std::process::ExitStatus::success)
        .map(|_| make())
}

fn main() {
    println!("before: {}", escher_tests::load());
    let daemon = Daemon::start();
    let keeper = Keeper::start_or_skip("the cost of cgroups");
    let kept = keeper.as_ref().map(|keeper| keeper.daemon().start());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(connect(&daemon));
    let kept_client = kept.as_ref().map(|kept| runtime.block_on(connect(kept)));
    let mut ctl = daemon.ctl().command(["run", "-w", "/", "/bin/true"]);
    ctl.stdin(Stdio::null()).env_remove("LD_LIBRARY_PATH");
    let mut slow: Vec<(&'static str, Command, Vec<Round>)> =
        vec![("escherctl run", ctl, Vec::new())];
    for (name, argv) in [
        (
            "systemd-run --wait",
            &["systemd-run", "--wait", "--quiet", "/bin/true"][..],
        ),
        ("tsp -f (task-spooler)", &["tsp", "-nf", "/bin/true"]),
    ] {
        match other_program(argv) {
            Some(command) => slow.push((name, command, Vec::new())),
            None => println!("{name}: not installed, or does not work; left out"),
        }
    }

    let (mut direct, mut direct_all, mut escher, mut escher_all) = (vec![], vec![], vec![], vec![]);
    let (mut in_cgroups, mut in_cgroups_all) = (vec![], vec![]);
    // Warms up shims and caches of every variant.
    for client in [&client].into_iter().chain(&kept_client) {
        runtime.block_on(escher_at_once(client, AT_ONCE));
    }
    for _ in 0..ROUNDS {
        direct.push(Round::measure(SEQUENTIAL_RUNS, run_directly));
        escher.push(runtime.block_on(escher_sequential(&client, SEQUENTIAL_RUNS)));
        direct_all.push(run_directly_at_once(CONCURRENT_RUNS));
        escher_all.push(runtime.block_on(escher_at_once(&client, CONCURRENT_RUNS)));
        if let Some(client) = &kept_client {
            in_cgroups.push(runtime.block_on(escher_sequential(client, SEQUENTIAL_RUNS)));
            in_cgroups_all.push(runtime.block_on(escher_at_once(client, CONCURRENT_RUNS)));
        }
        for (_, command, rounds) in &mut slow {
            rounds.push(Round::measure(SLOW_RUNS, || {
                assert!(command.status().unwrap().success())
            }));
        }
    }
    drop((client, kept_client));
    let _ = daemon.stop();
    let _ = kept.map(Daemon::stop);
    drop(keeper);
    println!("after: {}", escher_tests::load());

    let direct = summary("posix_spawn + wait", &direct);
    let mut rows = vec![summary("client library: execute, result", &escher)];
    if !in_cgroups.is_empty() {
        rows.push(summary(IN_CGROUPS, &in_cgroups));
    }
    rows.extend(slow.iter().map(|(name, _, rounds)| summary(name, rounds)));
    println!("\n/bin/true, one at a time (medians of {ROUNDS} rounds, in turns)\n");
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>8}",
        "", "p50 µs", "p99 µs", "per s", "× direct"
    );
    for row in [&direct].into_iter().chain(&rows) {
        let Summary {
            name,
            p50,
            p99,
            rate,
        } = row;
        println!(
            "{name:<34} {p50:>9.0} {p99:>9.0} {rate:>9.0} {:>8.2}",
            p50 / direct.p50
        );
    }
    let direct = summary("posix_spawn + wait", &direct_all);
    let escher = summary("client library: execute, result", &escher_all);
    println!("\n/bin/true, {AT_ONCE} at once\n");
    println!("{:<34} {:>9} {:>17}", "", "per s", "of direct's rate");
    let in_cgroups = (!in_cgroups_all.is_empty()).then(|| summary(IN_CGROUPS, &in_cgroups_all));
    for row in [&direct, &escher].into_iter().chain(&in_cgroups) {
        println!(
            "{:<34} {:>9.0} {:>17.2}",
            row.name,
            row.rate,
            row.rate / direct.rate
        );
    }
}
