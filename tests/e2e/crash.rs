//! A process of escher that is killed takes nothing else with it.

use std::fs;
use std::time::Instant;

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{ErrorCode, ExecutionRequest, OutputRange, Status, Timeout};
use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::EndCause;
use escher_tests::{
    Daemon, Fifo, child_program, connect, exec, in_runtime, is_unlocked, next_chunk, parent_of,
    shell, wait_started, watch, with_growing_timeout,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_command_outlives_escherd_and_leaves_a_complete_log_and_exit_record() {
    let mut daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "seq 1 50000; read line < {}; seq 1 50000 >&2; exit 7",
        gate.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    in_runtime(async { wait_started(&connect(&daemon).await, id).await });
    daemon.kill();
    gate.write_line("go");
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record);

    let report = exit_record::read(&record).expect("a valid record");
    assert_eq!((report.id, report.exit), (id, Exit::Code(7)));
    assert_eq!(
        (&report.cause, report.leftovers),
        (&EndCause::Itself, Leftovers::None)
    );
    let numbers: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(report.output.stdout_bytes, numbers.len() as u64);
    assert_eq!(report.output.stderr_bytes, numbers.len() as u64);
    // What of the two streams comes first in the log is not certain.
    let sorted = |text: String| {
        let mut bytes = text.into_bytes();
        bytes.sort_unstable();
        bytes
    };
    let log = fs::read_to_string(daemon.home().log(id)).unwrap();
    assert!(sorted(log) == sorted(numbers.repeat(2)));
    let index = fs::metadata(daemon.home().index(id)).unwrap().len();
    assert!(
        index >= 3 * 16,
        "a header and a record for each stream: {index}"
    );
}

#[test]
fn a_command_without_output_leaves_an_exit_record_too() {
    let mut daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!("read line < {}; kill -9 $$", gate.name());
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    in_runtime(async { wait_started(&connect(&daemon).await, id).await });
    daemon.kill();
    gate.write_line("go");
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record);
    let report = exit_record::read(&record).unwrap();
    assert!(
        matches!(report.exit, Exit::Signal { signal: 9, .. }),
        "{report:?}"
    );
    assert!(!daemon.home().log(id).exists());
}

#[test]
fn timeouts_and_the_kill_ladder_work_without_escherd() {
    let (daemon, id, lock) = with_growing_timeout(|timeout| {
        let begun = Instant::now();
        let mut daemon = Daemon::start();
        let lock = daemon.home().work().join("lock");
        let id = in_runtime(async {
            let client = connect(&daemon).await;
            let program = child_program();
            let request = ExecutionRequest {
                timeout: Timeout::After {
                    ms: timeout.as_millis() as u64,
                },
                kill_grace_ms: Some(300),
                ..exec([
                    program.to_str().unwrap(),
                    "ignore-sigterm",
                    lock.to_str().unwrap(),
                ])
            };
            let id = client.execute(request).await.unwrap().id;
            let mut output = client.follow(id, OutputRange::default()).await.unwrap();
            // Nothing comes if the timeout was too short for it.
            output.next().await.map(|_| id)
        });
        daemon.kill();
        let is_early = begun.elapsed() < timeout;
        is_early.then(|| (daemon, id.expect("it is ready"), lock))
    });
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record);
    let report = exit_record::read(&record).unwrap();
    assert_eq!(
        (&report.cause, report.ladder_signal),
        (&EndCause::TimedOut, Some(9))
    );
    assert!(
        matches!(report.exit, Exit::Signal { signal: 9, .. }),
        "{report:?}"
    );
    assert!(is_unlocked(&lock));
}

#[test]
fn many_commands_outlive_escherd() {
    let mut daemon = Daemon::start();
    let gates: Vec<Fifo> = (0..20)
        .map(|index| daemon.home().fifo(&format!("gate{index}")))
        .collect();
    let ids = in_runtime(async {
        let client = connect(&daemon).await;
        let mut ids = Vec::new();
        for (status, gate) in gates.iter().enumerate() {
            let script = format!("read line < {}; echo $line; exit {status}", gate.name());
            ids.push(client.execute(shell(&script)).await.unwrap().id);
        }
        for id in &ids {
            wait_started(&client, *id).await;
        }
        ids
    });
    daemon.kill();
    for ((status, gate), id) in (0..).zip(&gates).zip(ids) {
        gate.write_line("the end");
        let record = daemon.home().exit_record(id);
        watch::until_exists(&record);
        let report = exit_record::read(&record).unwrap();
        assert_eq!((report.id, report.exit), (id, Exit::Code(status)));
        assert_eq!(
            fs::read_to_string(daemon.home().log(id)).unwrap(),
            "the end\n"
        );
    }
}

#[test]
fn a_client_notices_that_escherd_was_killed() {
    let mut daemon = Daemon::start();
    let ready = daemon.home().fifo("ready");
    let gate = daemon.home().fifo("gate");
    let script = format!("echo ready > {}; read line < {}", ready.name(), gate.name());
    let run = daemon
        .ctl()
        .start(["run", "--reconnect", "none", "sh", "-c", &script]);
    assert_eq!(ready.read_line(), "ready");
    daemon.kill();
    let ended = run.wait().expect(125);
    assert!(!ended.stderr.is_empty());
    let ended = daemon.ctl().run(["run", "true"]).expect(125);
    assert!(ended.err().contains("escherd"), "{ended:?}");
    gate.write_line("go");
}

#[test]
fn commands_outlive_the_launcher_and_another_launcher_serves_new_ones() {
    let daemon = Daemon::start();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "echo before; read line < {}; echo after; exit 3",
        gate.name()
    );
    in_runtime(async {
        let client = connect(&daemon).await;
        let running = client.execute(shell(&script)).await.unwrap().id;
        wait_started(&client, running).await;
        for round in 0..3 {
            let info = client.info().await.unwrap();
            if let Some(pid) = info.launcher_pid {
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
            }
            // More than there are ready shims: a new launcher has to fork others.
            let mut ids = Vec::new();
            for index in 0..20 {
                let request = exec(["echo", &format!("{round} {index}")]);
                ids.push(client.execute(request).await.unwrap().id);
            }
            for (index, id) in ids.into_iter().enumerate() {
                let result = client.get_result(id).await.unwrap();
                assert_eq!(result.record.status, Status::Completed);
                assert_eq!(result.stdout, format!("{round} {index}\n").as_bytes());
            }
        }
        gate.write_line("go");
        let result = client.get_result(running).await.unwrap();
        assert_eq!(result.stdout, b"before\nafter\n");
        assert_eq!(result.record.outcome.unwrap().exit, Exit::Code(3));
    });
}

#[test]
fn while_the_launcher_is_stopped_commands_wait_and_none_is_lost() {
    let daemon = Daemon::with_config("[daemon]\nwarm_shims = 1");
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let running = client
            .execute(shell(&format!("read line < {}; echo done", gate.name())))
            .await
            .unwrap()
            .id;
        wait_started(&client, running).await;
        let launcher = client.info().await.unwrap().launcher_pid.unwrap();
        let launcher = Pid::from_raw(launcher.cast_signed());
        kill(launcher, Signal::SIGSTOP).unwrap();
        // More than there are ready shims: some have to wait for the launcher.
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(client.execute(exec(["true"])).await.unwrap().id);
        }
        gate.write_line("go");
        assert_eq!(client.get_result(running).await.unwrap().stdout, b"done\n");
        kill(launcher, Signal::SIGCONT).unwrap();
        for id in ids {
            assert_eq!(
                client.wait_for_completion(id).await.unwrap().status,
                Status::Completed
            );
        }
    });
}

/// The end of such a command cannot be known: it is reported as lost, and no process of it may stay.
#[test]
fn a_command_whose_shim_is_killed_is_lost() {
    let daemon = Daemon::start();
    let (child_program, lock) = (child_program(), daemon.home().work().join("lock"));
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = exec([
            child_program.to_str().unwrap(),
            "hold-lock",
            lock.to_str().unwrap(),
        ]);
        let id = client.execute(request).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        assert_eq!(&*next_chunk(&mut output).await.data, b"ready\n");
        let pid = client.get_status(id).await.unwrap().pid.unwrap();
        let shim = parent_of(Pid::from_raw(pid.cast_signed())).unwrap();
        kill(shim, Signal::SIGKILL).unwrap();
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Lost);
        let outcome = record.outcome.unwrap();
        assert_eq!(outcome.exit, Exit::Unknown);
        assert_eq!(outcome.error.unwrap().code, ErrorCode::LOST);
        assert_eq!(outcome.leftovers, Leftovers::Killed);
        assert!(is_unlocked(&lock), "the command has outlived its shim");
        // What it has written is still there.
        assert_eq!(client.get_result(id).await.unwrap().stdout, b"ready\n");
        let id = client.execute(exec(["echo", "next"])).await.unwrap().id;
        assert_eq!(client.get_result(id).await.unwrap().stdout, b"next\n");
    });
}

#[test]
fn a_new_escherd_starts_in_the_directories_of_one_that_was_killed() {
    let mut first = Daemon::start();
    let gate = first.home().fifo("gate");
    let id = first.ctl().submit([
        "sh",
        "-c",
        &format!("read line < {}; echo done", gate.name()),
    ]);
    in_runtime(async { wait_started(&connect(&first).await, id).await });
    first.kill();
    let second = Daemon::builder().home(first.home()).start();
    assert_eq!(
        second.ctl().run(["run", "echo", "here"]).expect(0).out(),
        "here\n"
    );
    gate.write_line("go");
    let log = second.home().log(id);
    watch::until(&second.home().logs(), || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text == "done\n").then_some(())
    });
}
