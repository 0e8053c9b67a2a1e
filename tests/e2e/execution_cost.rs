//! What one execution costs escherd and its shim, in system calls: no more than it did.
//!
//! Of escherd the thread counts that does everything until the answer; how often that of the store writes depends on the
//! time. On a busy machine several wake-ups become one, so the least of several rounds is compared.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use escher_client::Client;
use escher_tests::{Daemon, connect, exec, in_runtime, require_program, require_root, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What was counted when it was last looked at: a name and a number in each line.
const BASELINE: &str = include_str!("execution_cost.txt");

/// How much more is accepted, in percent.
const TOLERANCE: u64 = 10;

/// Executions in a round, one after the other.
const EXECUTIONS: u64 = 20;

/// Rounds of which the least counts.
const ROUNDS: usize = 3;

/// Fails if a figure is larger than in the baseline.
#[track_caller]
fn compare(name: &str, found: u64) {
    let mut lines = BASELINE.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, baseline) = lines.find(|(its, _)| *its == name).expect(name);
    let baseline: u64 = baseline.parse().unwrap();
    println!("{name}: {found}, {baseline} in the baseline");
    assert!(
        found * 100 <= baseline * (100 + TOLERANCE),
        "{name}: {found}, {baseline} in the baseline"
    );
}

async fn execute(client: &Client) {
    let id = client.execute(exec(["true"])).await.unwrap().id;
    client.wait_for_completion(id).await.unwrap();
}

/// Counts the system calls of the main threads of processes, while it lives, with strace(1).
struct SystemCalls(Child);

impl SystemCalls {
    fn count(of: &[Pid], summary: &Path) -> Self {
        let mut command = Command::new("strace");
        command.arg("-c").arg("-o").arg(summary);
        for pid in of {
            command.args(["-p", &pid.to_string()]);
        }
        let mut strace = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = strace.stderr.take().unwrap();
        let mut attached = 0;
        let mut stderr = BufReader::new(stderr);
        while attached < of.len() {
            let has_line = !stderr.buffer().is_empty() || wait::readable(stderr.get_ref());
            assert!(has_line, "strace attaches in time");
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "strace has ended");
            attached += usize::from(line.contains(" attached"));
        }
        // It says nothing more until it ends.
        strace.stderr = Some(stderr.into_inner());
        SystemCalls(strace)
    }

    /// Ends the count, and returns it.
    fn end(mut self, summary: &Path) -> u64 {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).unwrap();
        let _ = self.0.wait().unwrap();
        let summary = std::fs::read_to_string(summary).unwrap();
        let total = summary.lines().find(|line| line.ends_with(" total"));
        // Percent, seconds, microseconds per call, calls, perhaps errors.
        let calls = total.and_then(|total| total.split_whitespace().nth(3));
        calls.and_then(|calls| calls.parse().ok()).expect(&summary)
    }
}

#[test]
fn in_system_calls_is_no_more_than_it_was() {
    if !require_program("strace", "counting system calls") || !require_root("tracing shims") {
        return;
    }
    let daemon = Daemon::start();
    let launcher = daemon.ctl().json(["info"])["launcher_pid"]
        .as_i64()
        .unwrap();
    let launcher = Pid::from_raw(i32::try_from(launcher).unwrap());
    let directory = daemon.home().work();
    let (of_escherd, of_shims) = (directory.join("escherd"), directory.join("shims"));
    let (mut escherd, mut shim) = (u64::MAX, u64::MAX);
    in_runtime(async {
        let client = connect(&daemon).await;
        for _ in 0..ROUNDS {
            // The shims that are ready now are those that serve the next executions.
            execute(&client).await;
            let shims = daemon.processes().into_iter().map(|process| process.pid);
            let shims: Vec<Pid> = shims
                .filter(|pid| escher_tests::parent_of(*pid) == Some(launcher))
                .collect();
            let count_escherd = SystemCalls::count(&[daemon.pid()], &of_escherd);
            let count_shims = SystemCalls::count(&shims, &of_shims);
            for _ in 0..EXECUTIONS {
                execute(&client).await;
            }
            escherd = escherd.min(count_escherd.end(&of_escherd) / EXECUTIONS);
            shim = shim.min(count_shims.end(&of_shims) / EXECUTIONS);
        }
    });
    assert!(shim > 0, "the shims that were ready have served");
    compare("system calls of escherd", escherd);
    compare("system calls of the shim", shim);
}
