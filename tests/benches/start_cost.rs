//! What it costs to run a command that does nothing: from asking to its result.
//!
//! All contestants take turns in one run, so that they meet the same machine; the medians of the rounds are
//! printed, with their ratios to the kernel's own price: posix_spawn(3) and wait, by std's `Command`, which
//! takes that road when neither user nor hook is set.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench start_cost`

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use escher_client::{Client, ExecutionRequest, Status};
use escher_tests::{Daemon, Keeper, connect, exec};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// escherd with a launcher under a keeper.
const GROUPED: &str = "the same, each in its cgroup";

const ROUNDS: usize = 15;
const ONE_BY_ONE: usize = 200;
const AT_ONCE: usize = 64;
const IN_A_CROWD: usize = 1_000;
/// For contestants that take tens of milliseconds.
const SLOW: usize = 10;

/// The times of single runs, and how long all took together.
struct Round {
    each: Vec<Duration>,
    all: Duration,
}

impl Round {
    fn of(count: usize, mut run: impl FnMut()) -> Self {
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

/// The medians over all rounds of one contestant.
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

/// With an environment like that of escher's commands. What cargo puts into a benchmark's own, above all
/// `LD_LIBRARY_PATH`, would make each start of the program dearer for this contestant alone.
fn bare() -> Command {
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

fn bare_once() {
    assert!(bare().status().expect("/bin/true").success());
}

/// One thread for each that may run at once: posix_spawn(3) holds its thread until the program runs, so
/// that a single thread could not keep the processors busy.
fn bare_crowd(count: usize) -> Round {
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
                bare_once();
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

async fn escher_once(client: &Client) {
    let submitted = client.execute(request()).await.unwrap();
    let result = client.get_result(submitted.id).await.unwrap();
    assert_eq!(result.record.status, Status::Completed);
}

async fn escher_round(client: &Client, count: usize) -> Round {
    let mut each = Vec::with_capacity(count);
    let begun = Instant::now();
    for _ in 0..count {
        let start = Instant::now();
        escher_once(client).await;
        each.push(start.elapsed());
    }
    Round {
        each,
        all: begun.elapsed(),
    }
}

async fn escher_crowd(client: &Client, count: usize) -> Round {
    let start = Instant::now();
    let timed = || async {
        let start = Instant::now();
        escher_once(client).await;
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

/// A program that runs a command and waits for it; `None` if that does not work here.
fn contestant(argv: &[&str]) -> Option<Command> {
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
        match contestant(argv) {
            Some(command) => slow.push((name, command, Vec::new())),
            None => println!("{name}: not installed, or does not work here; left out"),
        }
    }

    let (mut bare, mut bare_all, mut escher, mut escher_all) = (vec![], vec![], vec![], vec![]);
    let (mut grouped, mut grouped_all) = (vec![], vec![]);
    // Shims and caches are warm for nobody alone.
    for client in [&client].into_iter().chain(&kept_client) {
        runtime.block_on(escher_crowd(client, AT_ONCE));
    }
    for _ in 0..ROUNDS {
        bare.push(Round::of(ONE_BY_ONE, bare_once));
        escher.push(runtime.block_on(escher_round(&client, ONE_BY_ONE)));
        bare_all.push(bare_crowd(IN_A_CROWD));
        escher_all.push(runtime.block_on(escher_crowd(&client, IN_A_CROWD)));
        if let Some(client) = &kept_client {
            grouped.push(runtime.block_on(escher_round(client, ONE_BY_ONE)));
            grouped_all.push(runtime.block_on(escher_crowd(client, IN_A_CROWD)));
        }
        for (_, command, rounds) in &mut slow {
            rounds.push(Round::of(SLOW, || {
                assert!(command.status().unwrap().success())
            }));
        }
    }
    drop((client, kept_client));
    let _ = daemon.stop();
    let _ = kept.map(Daemon::stop);
    drop(keeper);
    println!("after: {}", escher_tests::load());

    let bare = summary("posix_spawn + wait", &bare);
    let mut rows = vec![summary("client library: execute, result", &escher)];
    if !grouped.is_empty() {
        rows.push(summary(GROUPED, &grouped));
    }
    rows.extend(slow.iter().map(|(name, _, rounds)| summary(name, rounds)));
    println!("\n/bin/true, one at a time (medians of {ROUNDS} rounds taken in turns)\n");
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>8}",
        "", "p50 µs", "p99 µs", "per s", "× bare"
    );
    for row in [&bare].into_iter().chain(&rows) {
        let Summary {
            name,
            p50,
            p99,
            rate,
        } = row;
        println!(
            "{name:<34} {p50:>9.0} {p99:>9.0} {rate:>9.0} {:>8.2}",
            p50 / bare.p50
        );
    }
    let bare = summary("posix_spawn + wait", &bare_all);
    let escher = summary("client library: execute, result", &escher_all);
    println!("\n/bin/true, {AT_ONCE} at once\n");
    println!("{:<34} {:>9} {:>17}", "", "per s", "of bare's rate");
    let grouped = (!grouped_all.is_empty()).then(|| summary(GROUPED, &grouped_all));
    for row in [&bare, &escher].into_iter().chain(&grouped) {
        println!(
            "{:<34} {:>9.0} {:>17.2}",
            row.name,
            row.rate,
            row.rate / bare.rate
        );
    }
}
