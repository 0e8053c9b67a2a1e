//! The rate at which output is written to the log, compared with a pipe to cat and a file.
//!
//! The variants take turns in one run; medians are printed. `escherctl run` moves the same bytes a second time, so
//! it has a row of its own.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench throughput`

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_tests::{Daemon, connect, shell};

const ROUNDS: usize = 7;
const BYTES: u64 = 2_000_000_000;

/// A command that writes in blocks of 64 KiB, as many programs do.
fn writer() -> String {
    format!("head -c {BYTES} /dev/zero")
}

fn into_cat(file: &Path) -> Duration {
    let script = format!("{} | cat > \"$0\"", writer());
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &script])
        .arg(file)
        .env_remove("LD_LIBRARY_PATH");
    timed(|| assert!(command.status().unwrap().success()))
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    BYTES as f64 / times[times.len() / 2].as_secs_f64() / 1e6
}

fn main() {
    println!("before: {}", escher_tests::load());
    let daemon = Daemon::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(connect(&daemon));
    // In the same file system as the logs.
    let file = daemon.home().work().join("by-cat");
    let (mut cat, mut log, mut run) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cat.push(into_cat(&file));
        assert_eq!(fs::metadata(&file).unwrap().len(), BYTES);
        fs::remove_file(&file).unwrap();

        log.push(timed(|| {
            runtime.block_on(async {
                let id = client.execute(shell(&writer())).await.unwrap().id;
                let outcome = client
                    .wait_for_completion(id)
                    .await
                    .unwrap()
                    .outcome
                    .unwrap();
                assert_eq!(outcome.output.log_bytes, BYTES);
            });
        }));
        remove_logs(&daemon);

        let mut ctl = daemon.ctl().command(["run", "sh", "-c", &writer()]);
        ctl.stdin(Stdio::null())
            .stdout(Stdio::null())
            .env_remove("LD_LIBRARY_PATH");
        run.push(timed(|| assert!(ctl.status().unwrap().success())));
        remove_logs(&daemon);
    }
    drop(client);
    let _ = daemon.stop();
    println!("after: {}", escher_tests::load());

    println!("\n{BYTES} bytes of output (medians of {ROUNDS} rounds, in turns)\n");
    println!("{:<34} {:>9} {:>8}", "", "MB/s", "× cat");
    let reference = median(cat.clone());
    for (name, times) in [
        ("command | cat > file", cat),
        ("command into the log", log),
        ("escherctl run command > /dev/null", run),
    ] {
        let rate = median(times);
        println!("{name:<34} {rate:>9.0} {:>8.2}", rate / reference);
    }
}

/// Removes the logs, so that each round has the same free space.
fn remove_logs(daemon: &Daemon) {
    for entry in fs::read_dir(daemon.home().logs()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}
