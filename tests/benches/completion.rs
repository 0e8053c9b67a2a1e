//! What comes after a command's end: how soon whoever waits for it knows, and what cleaning up costs.
//!
//! The command tells the time (CLOCK_MONOTONIC) as the last thing that it does; what is measured is from there to
//! the return of the call that waits. The contestants take turns in one run: a bare wait, by std's `Command`,
//! the engine in this process, and the client library over the socket. Before escher tells of an end, that end
//! is in the store.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench completion`

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_client::{Client, ExecutionRequest};
use escher_tests::{Daemon, Home, child_program, connect, exec, monotonic};
use escherd::{ExecutionEngine, OnStop};
use futures_util::StreamExt;

const ROUNDS: usize = 15;
const IN_A_ROUND: usize = 100;
const CLEANUPS: usize = 9;
const CLEANED_UP: usize = 1000;
const AT_ONCE: usize = 16;

/// What the command says, as the time since it said so.
fn since(said: &[u8]) -> Duration {
    let now = monotonic();
    let said: u64 = std::str::from_utf8(said).unwrap().trim().parse().unwrap();
    now - Duration::from_nanos(said)
}

fn bare(command: &mut Command) -> Duration {
    let mut child = command.spawn().expect("the actor");
    assert!(child.wait().unwrap().success());
    let returned = monotonic();
    let mut said = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    std::io::Read::read_to_end(&mut stdout, &mut said).unwrap();
    since(&said) - (monotonic() - returned)
}

fn request() -> ExecutionRequest {
    exec([child_program().to_str().unwrap(), "print-time"])
}

async fn in_process(engine: &ExecutionEngine) -> Duration {
    let id = engine.execute(request()).await.unwrap().id;
    engine.wait_for_completion(id).await.unwrap();
    let returned = monotonic();
    let said = engine.get_result(id).await.unwrap().stdout;
    since(&said) - (monotonic() - returned)
}

async fn over_the_socket(client: &Client) -> Duration {
    let id = client.execute(request()).await.unwrap().id;
    client.wait_for_completion(id).await.unwrap();
    let returned = monotonic();
    let said = client.get_result(id).await.unwrap().stdout;
    since(&said) - (monotonic() - returned)
}

fn quantile(times: &mut [Duration], q: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e6
}

/// Executions with output, and nothing kept of them once somebody cleans up.
async fn cleanup(home: &Home) -> Vec<Duration> {
    let mut config = home.engine_config();
    config.executions.cleanup.is_automatic = false;
    config.executions.cleanup.limits.max_count = 0;
    let engine = ExecutionEngine::new(config).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..CLEANUPS {
        let runs = (0..CLEANED_UP).map(async |_| {
            let id = engine.execute(exec(["/bin/echo", "x"])).await.unwrap().id;
            engine.wait_for_completion(id).await.unwrap();
        });
        let mut runs = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE);
        while runs.next().await.is_some() {}
        let start = Instant::now();
        let removed = engine.cleanup_old_executions().await.unwrap();
        times.push(start.elapsed());
        assert_eq!(removed.executions, CLEANED_UP as u64);
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
        .block_on(ExecutionEngine::new(home.engine_config()))
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
        waited.extend((0..IN_A_ROUND).map(|_| bare(&mut command)));
        runtime.block_on(async {
            for _ in 0..IN_A_ROUND {
                inside.push(in_process(&engine).await);
            }
            for _ in 0..IN_A_ROUND {
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
        "\nfrom a command's last act to the return of the call, {} times each\n",
        ROUNDS * IN_A_ROUND
    );
    println!("{:<42} {:>9} {:>9} {:>8}", "", "p50 µs", "p99 µs", "× bare");
    let reference = quantile(&mut waited, 0.5);
    for (name, times) in [
        ("bare wait", &mut waited),
        ("wait_for_completion, in process", &mut inside),
        ("wait_for_completion, over the socket", &mut outside),
    ] {
        let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
        println!("{name:<42} {p50:>9.0} {p99:>9.0} {:>8.2}", p50 / reference);
    }
    println!(
        "\ncleanup_old_executions with {CLEANED_UP} to forget: median of {CLEANUPS} {:.1} ms, longest {:.1} ms",
        quantile(&mut cleanups, 0.5) / 1e3,
        quantile(&mut cleanups, 1.0) / 1e3
    );
}
