//! How fast output goes into the log, against a pipe into cat and a file.
//!
//! The contestants take turns in one run; medians are printed. The reader of `escherctl run` has to move
//! the same bytes a second time, so it stands in a line of its own.
//!
//! `cargo build --release --workspace && cargo bench -p escher-tests --bench throughput`

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use escher_tests::{Daemon, connect, shell};

const ROUNDS: usize = 7;
const BYTES: u64 = 2_000_000_000;

/// In blocks of 64 KiB, as many programs write.
fn source() -> String {
    format!("head -c {BYTES} /dev/zero")
}

fn into_cat(file: &Path) -> Duration {
    let script = format!("{} | cat > \"$0\"", source());
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
    // On the same file system as the logs.
    let file = daemon.home().work().join("by-cat");
    let (mut cat, mut log, mut run) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cat.push(into_cat(&file));
        assert_eq!(fs::metadata(&file).unwrap().len(), BYTES);
        fs::remove_file(&file).unwrap();

        log.push(timed(|| {
            runtime.block_on(async {
                let id = client.execute(shell(&source())).await.unwrap().id;
                let outcome = client
                    .wait_for_completion(id)
                    .await
                    .unwrap()
                    .outcome
                    .unwrap();
                assert_eq!(outcome.output.log_bytes, BYTES);
            });
        }));
        empty(&daemon);

        let mut ctl = daemon.ctl().command(["run", "sh", "-c", &source()]);
        ctl.stdin(Stdio::null())
            .stdout(Stdio::null())
            .env_remove("LD_LIBRARY_PATH");
        run.push(timed(|| assert!(ctl.status().unwrap().success())));
        empty(&daemon);
    }
    drop(client);
    let _ = daemon.stop();
    println!("after: {}", escher_tests::load());

    println!("\n{BYTES} bytes of output (medians of {ROUNDS} rounds taken in turns)\n");
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

/// Removes the logs, which nobody reads any more, to leave each round the same room.
fn empty(daemon: &Daemon) {
    for entry in fs::read_dir(daemon.home().logs()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}
