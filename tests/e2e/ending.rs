//! A command and all processes that it has started come to an end, whatever they do against it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{CancelAnswer, CancelMode, ExecutionRequest, RunAs, Status, Timeout};
use escher_tests::{
    DEADLINE, Daemon, Digest, LONG_DEADLINE, RunningProgram, child_program, connect, exec,
    in_runtime, is_unlocked, report_skipped, require_root, shell, with_growing_timeout,
};
use nix::sys::signal::Signal;
use nix::unistd::User;

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    const GRACE_MS: u32 = 300;
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let (timeout, record) = with_growing_timeout(|timeout| {
        in_runtime(async {
            let client = connect(&daemon).await;
            let program = child_program();
            let request = ExecutionRequest {
                timeout: Timeout::After {
                    ms: timeout.as_millis() as u64,
                },
                kill_grace_ms: Some(GRACE_MS.into()),
                ..exec([
                    program.to_str().unwrap(),
                    "ignore-sigterm",
                    lock.to_str().unwrap(),
                ])
            };
            let id = client.execute(request).await.unwrap().id;
            let result = client.get_result(id).await.unwrap();
            let was_ready = result.stdout == b"ready\n";
            was_ready.then_some((timeout, result.record))
        })
    });
    assert!(is_unlocked(&lock));
    assert_eq!(record.status, Status::Timeout);
    let outcome = record.outcome.unwrap();
    assert!(
        matches!(outcome.exit, Exit::Signal { signal: 9, .. }),
        "{outcome:?}"
    );
    assert_eq!(outcome.ended_by_signal, Some(9));
    let at_least = timeout + Duration::from_millis(GRACE_MS.into());
    assert!(
        u128::from(outcome.duration_us) >= at_least.as_micros(),
        "{outcome:?}"
    );
}

#[test]
fn a_double_fork_in_a_session_of_its_own_is_killed_with_the_end_of_the_command() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let mut command = daemon.ctl().command(["run", "--name", "it", "--"]);
    command.arg(child_program()).arg("daemonize").arg(&lock);
    let ended = RunningProgram::spawn(command, DEADLINE).wait().expect(0);
    assert_eq!(ended.out(), "main is done\n");
    assert!(is_unlocked(&lock), "nothing survives");
    let record = daemon.ctl().inspect("it");
    assert_eq!(
        (&record["status"], &record["leftovers"]),
        (&"completed".into(), &"killed".into()),
        "{record}"
    );
}

/// A script that leaves a process in a session of its own, which holds `lock`, then prints `ready` and stays.
fn daemonize_and_stay(lock: &Path) -> String {
    format!(
        "{} daemonize {}; echo ready; exec sleep 600",
        child_program().display(),
        lock.display()
    )
}

#[test]
fn a_cancel_reaches_processes_outside_of_the_session() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let script = daemonize_and_stay(&lock);
    let words = ["run", "--name", "it", "sh", "-c", &script];
    let mut run = RunningProgram::spawn_unread(daemon.ctl().command(words), DEADLINE);
    let mut lines = BufReader::new(run.stdout()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    assert!(!is_unlocked(&lock));
    let _ = daemon.ctl().run(["cancel", "it"]).expect(0);
    let _ = run.wait().expect(143);
    assert!(is_unlocked(&lock));
}

#[test]
fn a_timeout_reaches_processes_outside_of_the_session() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let script = daemonize_and_stay(&lock);
    with_growing_timeout(|timeout| {
        let timeout = format!("{}ms", timeout.as_millis());
        let words = ["run", "--timeout", &timeout, "sh", "-c", &script];
        let ended = daemon.ctl().run(words).expect(124);
        ended.out().ends_with("ready\n").then_some(())
    });
    assert!(is_unlocked(&lock));
}

#[test]
fn children_that_exit_in_time_are_no_leftovers_and_their_output_is_kept() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "(read line < {0}; echo late) & echo early; echo go > {0}",
        gate.name()
    );
    let words = ["run", "--name", "it", "--drain", "60s", "sh", "-c", &script];
    let ended = daemon.ctl().run(words).expect(0);
    let mut lines: Vec<&str> = ended.out().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["early", "late"]);
    let record = daemon.ctl().inspect("it");
    assert_eq!(
        (&record["leftovers"], &record["drain_ms"]),
        (&"none".into(), &60_000.into())
    );
}

/// The shell does not wait for `tee`, which still has to write what is in the pipe between them.
#[test]
fn a_program_between_a_command_and_its_output_loses_nothing() {
    const BYTES: u64 = 100 << 20;
    let lines = format!("seq 100000000 | head -c {BYTES}");
    let daemon = Daemon::start();
    let ctl = daemon.ctl().deadline(LONG_DEADLINE);
    let script = format!("exec > >(tee /dev/null); {lines}");
    let words = ["--timeout", "10m", "--drain", "60s", "bash", "-c", &script];
    let id = ctl.submit(words);
    ctl.wait(id, 0);
    let mut expected = std::process::Command::new("sh");
    let mut expected = expected
        .args(["-c", &lines])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let digest = Digest::of_reader(expected.stdout.take().unwrap()).hex();
    assert!(expected.wait().unwrap().success());
    let log = File::open(daemon.home().log(id)).unwrap();
    assert_eq!(log.metadata().unwrap().len(), BYTES);
    assert_eq!(Digest::of_reader(log).hex(), digest);
    let record = ctl.inspect(id);
    assert_eq!(
        (&record["leftovers"], &record["output"]["stdout_bytes"]),
        (&"none".into(), &BYTES.into())
    );
}

#[test]
fn a_drain_over_the_maximum_is_refused_with_both_figures() {
    let daemon = Daemon::with_config("[execution]\nmax_drain = \"5s\"\n");
    let refused = daemon.ctl().run(["run", "--drain", "5001ms", "true"]);
    let refused = refused.expect(125);
    for part in ["5001ms", "5s", "execution.max_drain"] {
        assert!(refused.err().contains(part), "{refused:?}");
    }
    let _ = daemon.ctl().run(["run", "--drain", "5s", "true"]).expect(0);
}

#[test]
fn many_processes_end_with_the_main_process() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let ready = daemon.home().fifo("ready");
    // 64 processes share a lock, half of them in sessions of their own.
    let script = format!(
        "for i in $(seq 32); do (exec 9> {0}; flock -s 9; exec sleep 600) & \
         setsid sh -c 'exec 9> {0}; flock -s 9; trap \"\" TERM; sleep 600; sleep 600' & done; \
         exec 9> {0}; flock -s 9; echo ready > {1}; wait",
        lock.display(),
        ready.name()
    );
    let run = daemon
        .ctl()
        .start(["run", "--kill-after", "300ms", "sh", "-c", &script]);
    assert_eq!(ready.read_line(), "ready");
    run.signal(Signal::SIGTERM);
    let ended = run.wait();
    // The main process dies of SIGTERM, which escherctl got too, or of SIGKILL.
    assert!([137, -15].contains(&ended.code), "{ended:?}");
    assert!(is_unlocked(&lock));
}

#[test]
fn a_stopped_command_can_be_cancelled() {
    let daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let script = format!(
        "echo ready > {}; kill -STOP $$; exec sleep 600",
        ready.name()
    );
    let run = daemon
        .ctl()
        .start(["run", "--name", "it", "sh", "-c", &script]);
    assert_eq!(ready.read_line(), "ready");
    let _ = daemon.ctl().run(["cancel", "it"]).expect(0);
    let _ = run.wait().expect(143);
}

#[test]
fn cancelling_again_reports_the_present_state() {
    let daemon = Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n");
    let ready = daemon.home().fifo("ready");
    let script = format!(
        "trap '' TERM; echo ready > {}; while :; do sleep 1; done",
        ready.name()
    );
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = ExecutionRequest {
            kill_grace_ms: Some(3_600_000),
            ..shell(&script)
        };
        let id = client.execute(request).await.unwrap().id;
        assert_eq!(ready.read_line(), "ready");
        let cancel = |mode| client.cancel(id, mode);
        assert_eq!(
            cancel(CancelMode::Graceful).await.unwrap(),
            CancelAnswer::Ending
        );
        assert_eq!(
            cancel(CancelMode::Graceful).await.unwrap(),
            CancelAnswer::AlreadyEnding
        );
        cancel(CancelMode::Kill).await.unwrap();
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Cancelled);
        let already = CancelAnswer::AlreadyFinished(Status::Cancelled);
        assert_eq!(cancel(CancelMode::Kill).await.unwrap(), already);
    });
}

/// SIGTERM reaches a command at whatever step of its start it is. The grace period is an hour, so a lost signal
/// shows as a command that does not end.
#[test]
fn a_cancel_during_the_start_of_a_command_is_not_lost() {
    const ROUNDS: usize = 1000;
    let daemon = Daemon::with_config("[execution]\nmax_kill_grace = \"1h\"\n");
    let lost = in_runtime(async {
        let client = connect(&daemon).await;
        let mut lost = 0;
        for _ in 0..ROUNDS {
            let request = ExecutionRequest {
                kill_grace_ms: Some(3_600_000),
                ..exec(["sleep", "600"])
            };
            let id = client.execute(request).await.unwrap().id;
            client.cancel(id, CancelMode::Graceful).await.unwrap();
            let ended = tokio::time::timeout(DEADLINE, client.wait_for_completion(id)).await;
            if ended.is_err() {
                lost += 1;
                client.cancel(id, CancelMode::Kill).await.unwrap();
                client.wait_for_completion(id).await.unwrap();
            }
            if lost == 3 {
                break; // Each takes as long as the deadline.
            }
        }
        lost
    });
    assert_eq!(lost, 0, "of up to {ROUNDS} commands");
}

#[test]
fn kill_signals_the_main_process() {
    let daemon = Daemon::start();
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo usr1 > {0}' USR1; trap 'exit 5' USR2; echo ready > {0}; \
         while :; do sleep 600 & wait; done",
        answers.name()
    );
    let run = daemon
        .ctl()
        .start(["run", "--name", "it", "sh", "-c", &script]);
    assert_eq!(answers.read_line(), "ready");
    let _ = daemon.ctl().run(["kill", "-s", "USR1", "it"]).expect(0);
    assert_eq!(answers.read_line(), "usr1");
    let _ = daemon.ctl().run(["kill", "-s", "SIGUSR2", "it"]).expect(0);
    let _ = run.wait().expect(5);
    let _ = daemon.ctl().run(["kill", "-s", "USR1", "it"]).expect(1);
}

#[test]
fn kill_signals_all_processes_with_tree() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let script = daemonize_and_stay(&lock);
    let words = ["run", "--name", "it", "--drain", "60s", "sh", "-c", &script];
    let mut run = RunningProgram::spawn_unread(daemon.ctl().command(words), DEADLINE);
    let mut lines = BufReader::new(run.stdout()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let kill = ["kill", "-s", "KILL", "--tree", "it"];
    let _ = daemon.ctl().run(kill).expect(0);
    let _ = run.wait().expect(137);
    assert!(is_unlocked(&lock));
    let record = daemon.ctl().inspect("it");
    assert_eq!(
        (&record["status"], &record["leftovers"]),
        (&"failed".into(), &"none".into()),
        "{record}"
    );
}

/// A user stops all its own processes as fast as it can, so that commands of it stand still between the change
/// of user and the program. Commands of others must not wait for them.
#[test]
fn a_user_that_stops_its_own_processes_delays_no_other() {
    const VICTIM: &str = "games"; // of base-passwd; no other test runs anything as this user
    const SETUP_DEADLINE: Duration = Duration::from_secs(10); // the shim's
    let what = "commands stopped by their own user";
    if !require_root(what) {
        return;
    }
    let Ok(Some(user)) = User::from_name(VICTIM) else {
        report_skipped(&format!("needs the user {VICTIM}"), what);
        return;
    };
    let daemon = Daemon::start();
    let mut command = std::process::Command::new(child_program());
    command
        .args(["run-as", &format!("{0}:{0}:", user.uid)])
        .arg(daemon.home().share(&child_program()))
        .arg("stop-user");
    let mut stopper = RunningProgram::spawn_unread(command, DEADLINE);
    stopper.stdout().read_exact(&mut [0; 6]).unwrap();

    in_runtime(async {
        let client = connect(&daemon).await;
        let begun = Instant::now();
        let mut victims = Vec::new();
        for _ in 0..40 {
            let request = ExecutionRequest {
                run_as: RunAs::Name(VICTIM.into()),
                ..exec(["sleep", "600"])
            };
            victims.push(client.execute(request).await.unwrap().id);
        }
        for round in 0..20 {
            let text = round.to_string();
            let id = client.execute(exec(["echo", &text])).await.unwrap().id;
            let result = client.get_result(id).await.unwrap();
            assert_eq!(result.stdout, format!("{round}\n").as_bytes());
        }
        let mut finished = 0;
        for id in &victims {
            let status = client.get_status(*id).await.unwrap().status;
            finished += usize::from(status.is_finished());
        }
        for id in &victims {
            client.cancel(*id, CancelMode::Kill).await.unwrap();
        }
        // After its deadline a shim gives up a command that stands still, as on a slow machine.
        if begun.elapsed() < SETUP_DEADLINE {
            assert_eq!(
                finished, 0,
                "others were served while all victims stood still"
            );
        }
        for id in victims {
            let record = client.wait_for_completion(id).await.unwrap();
            if begun.elapsed() < SETUP_DEADLINE {
                assert_eq!(record.status, Status::Cancelled);
            }
            assert_eq!(record.outcome.unwrap().leftovers, Leftovers::None);
        }
    });
    stopper.signal(Signal::SIGKILL);
    let _ = stopper.wait().expect(-9);
}
