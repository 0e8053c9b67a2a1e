//! A command and all that it has started come to an end, whatever they do against it.

use std::time::Duration;

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{CancelMode, CancelOutcome, ExecutionRequest, RunAs, Status, Timeout};
use escher_tests::{
    DEADLINE, Daemon, RunningProgram, child_program, connect, exec, in_runtime, is_unlocked,
    require_root, shell,
};
use nix::sys::signal::Signal;

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    in_runtime(async {
        let client = connect(&daemon).await;
        let child_program = child_program();
        let request = ExecutionRequest {
            timeout: Timeout::After { ms: 500 },
            kill_grace_ms: Some(300),
            ..exec([
                child_program.to_str().unwrap(),
                "ignore-sigterm",
                lock.to_str().unwrap(),
            ])
        };
        let id = client.execute(request).await.unwrap().id;
        let record = client.wait_for_completion(id).await.unwrap();
        assert!(is_unlocked(&lock));
        assert_eq!(record.status, Status::Timeout);
        let outcome = record.outcome.unwrap();
        assert!(
            matches!(outcome.exit, Exit::Signal { signal: 9, .. }),
            "{outcome:?}"
        );
        assert_eq!(outcome.ended_by_signal, Some(9));
        assert!(outcome.duration_us >= 800_000, "{outcome:?}");
    });
}

#[test]
fn a_double_fork_in_a_session_of_its_own_neither_holds_back_the_result_nor_survives() {
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

#[test]
fn a_timeout_and_a_cancel_reach_what_has_left_the_session_too() {
    let daemon = Daemon::start();
    for (index, flags) in [&["--timeout", "2s"][..], &[]].iter().enumerate() {
        let lock = daemon.home().work().join(format!("lock{index}"));
        let ready = daemon.home().fifo(&format!("ready{index}"));
        let name = format!("it{index}");
        let script = format!(
            "{} daemonize {}; echo ready > {}; exec sleep 600",
            child_program().display(),
            lock.display(),
            ready.name()
        );
        let words = ["--name", &name, "sh", "-c", &script];
        let run = daemon.ctl().start([&["run"], *flags, &words].concat());
        assert_eq!(ready.read_line(), "ready");
        if flags.is_empty() {
            assert!(!is_unlocked(&lock));
            let _ = daemon.ctl().run(["cancel", &name]).expect(0);
        }
        let _ = run.wait().expect(if flags.is_empty() { 143 } else { 124 });
        assert!(is_unlocked(&lock));
    }
}

#[test]
fn children_that_end_in_time_are_no_leftovers_and_their_output_counts() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "(read line < {0}; echo late) & echo early; echo go > {0}",
        gate.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    let ended = daemon.ctl().run(["attach", &id]).expect(0);
    let mut lines: Vec<&str> = ended.out().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["early", "late"]);
    assert_eq!(daemon.ctl().inspect(&id)["leftovers"], "none");
}

#[test]
fn a_whole_crowd_ends_with_its_main_process() {
    let daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let ready = daemon.home().fifo("ready");
    // A shared lock of 64 processes, in groups and sessions of all kinds.
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
    assert!([137, 143].contains(&ended.code), "{ended:?}");
    assert!(is_unlocked(&lock));
}

#[test]
fn a_stopped_command_is_ended_all_the_same() {
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
fn cancelling_says_what_was_already_so() {
    let daemon = Daemon::start();
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
            CancelOutcome::Ending
        );
        assert_eq!(
            cancel(CancelMode::Graceful).await.unwrap(),
            CancelOutcome::AlreadyEnding
        );
        cancel(CancelMode::Kill).await.unwrap();
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Cancelled);
        let already = CancelOutcome::AlreadyFinished(Status::Cancelled);
        assert_eq!(cancel(CancelMode::Kill).await.unwrap(), already);
    });
}

/// At whatever step of its start a command is: SIGTERM reaches it. The grace period is an hour, so one that
/// was lost shows as a command that does not end.
#[test]
fn a_cancel_in_the_middle_of_the_start_is_not_lost() {
    const ROUNDS: usize = 1000;
    let daemon = Daemon::start();
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
            let ended =
                tokio::time::timeout(Duration::from_secs(20), client.wait_for_completion(id)).await;
            if ended.is_err() {
                lost += 1;
                client.cancel(id, CancelMode::Kill).await.unwrap();
                client.wait_for_completion(id).await.unwrap();
            }
            if lost == 3 {
                break; // It is clear by now.
            }
        }
        lost
    });
    assert_eq!(lost, 0, "of up to {ROUNDS} commands");
}

#[test]
fn a_signal_goes_to_the_main_process() {
    let daemon = Daemon::start();
    let heard = daemon.home().fifo("heard");
    let script = format!(
        "trap 'echo usr1 > {0}' USR1; trap 'exit 5' USR2; echo ready > {0}; \
         while :; do sleep 600 & wait; done",
        heard.name()
    );
    let run = daemon
        .ctl()
        .start(["run", "--name", "it", "sh", "-c", &script]);
    assert_eq!(heard.read_line(), "ready");
    let _ = daemon.ctl().run(["kill", "-s", "USR1", "it"]).expect(0);
    assert_eq!(heard.read_line(), "usr1");
    let _ = daemon.ctl().run(["kill", "-s", "SIGUSR2", "it"]).expect(0);
    let _ = run.wait().expect(5);
    let _ = daemon.ctl().run(["kill", "-s", "USR1", "it"]).expect(1);
}

/// A user who stops all its processes as fast as it can, so that commands of it are caught between the
/// change of user and the program. That is its own loss: others must not wait for them.
#[test]
fn a_user_that_stops_its_own_processes_delays_no_other() {
    const VICTIM: &str = "games"; // of base-passwd; no other test may run anything as it
    if !require_root("commands stopped by their own user") {
        return;
    }
    let Ok(Some(user)) = nix::unistd::User::from_name(VICTIM) else {
        eprintln!("SKIPPED: there is no user {VICTIM}");
        return;
    };
    let daemon = Daemon::start();
    let mut command = std::process::Command::new(child_program());
    command
        .args(["run-as", &format!("{0}:{0}:", user.uid)])
        .arg(daemon.home().share(&child_program()))
        .arg("stop-user");
    let mut freezer = RunningProgram::spawn_unread(command, DEADLINE);
    std::io::Read::read_exact(&mut freezer.stdout(), &mut [0; 6]).unwrap();

    in_runtime(async {
        let client = connect(&daemon).await;
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
        for id in &victims {
            let status = client.get_status(*id).await.unwrap().status;
            assert!(
                !status.is_finished(),
                "others were served while all victims stood still"
            );
        }
        for id in &victims {
            client.cancel(*id, CancelMode::Kill).await.unwrap();
        }
        for id in victims {
            let record = client.wait_for_completion(id).await.unwrap();
            assert_eq!(record.status, Status::Cancelled);
            assert_eq!(record.outcome.unwrap().leftovers, Leftovers::None);
        }
    });
    freezer.signal(Signal::SIGKILL);
    let _ = freezer.wait().expect(-9);
}
