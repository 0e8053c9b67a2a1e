//! The time from the end of a command to the answer for its waiters, and the time of a cleanup.
//!
//! The command prints the time (CLOCK_MONOTONIC) as its last act. What is measured is from there to the return of
//! the call that waits. The variants take turns in one run: a direct wait, by std's `Command`, the engine in this
//! process, and the client library over the socket. escher stores an end before it reports it.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench completion`

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_client::{Client, ExecutionRequest};
use escher_tests::{Daemon, Home, child_program, connect, exec, monotonic};
use escherd::{ExecutionEngine, OnStop};
use futures_util::StreamExt;

const ROUNDS: usize = 15;
const RUNS_PER_ROUND: usize = 100;
const CLEANUPS: usize = 9;
const EXECUTIONS_PER_CLEANUP: usize = 1000;
const AT_ONCE: usize = 16;

/// The time since the command printed the time.
fn since_printed(printed: &[u8]) -> Duration {
    let now = monotonic();
    let printed: u64 = std::str::from_utf8(printed)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    now - Duration::from_nanos(printed)
}

fn direct(command: &mut Command) -> Duration {
    let mut child = command.spawn().expect("child-program");
    assert!(child.wait().unwrap().success());
    let returned = monotonic();
    let mut printed = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    std::io::Read::read_to_end(&mut stdout, &mut printed).unwrap();
    since_printed(&printed) - (monotonic() - returned)
}

fn request() -> ExecutionRequest {
    exec([child_program().to_str().unwrap(), "print-time"])
}

async fn in_process(engine: &ExecutionEngine) -> Duration {
    let id = engine.execute(request()).await.unwrap().id;
    engine.wait_for_completion(id).await.unwrap();
    let returned = monotonic();
    let printed = engine.get_result(id).await.unwrap().stdout;
    since_printed(&printed) - (monotonic() - returned)
}

async fn over_the_socket(client: &Client) -> Duration {
    let id = client.execute(request()).await.unwrap().id;
    client.wait_for_completion(id).await.unwrap();
    let returned = monotonic();
    let printed = client.get_result(id).await.unwrap().stdout;
    since_printed(&printed) - (monotonic() - returned)
}

fn quantile(times: &mut [Duration], q: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e6
}

/// Measures the removal of finished executions with output.
async fn cleanup(home: &Home) -> Vec<Duration> {
    let mut config = home.engine_settings();
    config.reloadable.cleanup.is_automatic = false;
    config.reloadable.cleanup.limits.max_count = 0;
    let engine = ExecutionEngine::new(config).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..CLEANUPS {
        let runs = (0..EXECUTIONS_PER_CLEANUP).map(async |_| {
            let id = engine.execute(exec(["/bin/echo", "x"])).await.unwrap().id;
            engine.wait_for_completion(id).await.unwrap();
        });
        let mut runs = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE);
        while runs.next().await.is_some() {}
        let start = Instant::now();
        let removed = engine.cleanup_old_executions().await.unwrap();
        times.push(start.elapsed());
        assert_eq!(removed.executions, EXECUTIONS_PER_CLEANUP as u64);
    }
    engine.shutdown(OnStop::Cancel).await;
    times
}

fn main() {
    println!("before: {}", escher_tests::load());
    let (daemon, home) = (Daemon::start(), Home::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(connect(&daemon));
    let engine = runtime
        .block_on(ExecutionEngine::new(home.engine_settings()))
        .unwrap();
    let mut command = Command::new(child_program());
    command
        .arg("print-time")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());

    let (mut waited, mut inside, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        waited.extend((0..RUNS_PER_ROUND).map(|_| direct(&mut command)));
        runtime.block_on(async {
            for _ in 0..RUNS_PER_ROUND {
                inside.push(in_process(&engine).await);
            }
            for _ in 0..RUNS_PER_ROUND {
                outside.push(over_the_socket(&client).await);
            }
            engine.cleanup_old_executions().await.unwrap();
        });
    }
    runtime.block_on(engine.shutdown(OnStop::Cancel));
    drop(client);
    let _ = daemon.stop();
    let mut cleanups = runtime.block_on(cleanup(&Home::new()));
    println!("after: {}", escher_tests::load());

    println!(
        "\nfrom the last act of a command to the return of the call, {} times each\n",
        ROUNDS * RUNS_PER_ROUND
    );
    println!(
        "{:<42} {:>9} {:>9} {:>8}",
        "", "p50 µs", "p99 µs", "× direct"
    );
    let reference = quantile(&mut waited, 0.5);
    for (name, times) in [
        ("direct wait", &mut waited),
        ("wait_for_completion, in process", &mut inside),
        ("wait_for_completion, over the socket", &mut outside),
    ] {
        let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
        println!("{name:<42} {p50:>9.0} {p99:>9.0} {:>8.2}", p50 / reference);
    }
    println!(
        "\ncleanup_old_executions with {EXECUTIONS_PER_CLEANUP} executions: median of {CLEANUPS} {:.1} ms, longest {:.1} ms",
        quantile(&mut cleanups, 0.5) / 1e3,
        quantile(&mut cleanups, 1.0) / 1e3
    );
}
