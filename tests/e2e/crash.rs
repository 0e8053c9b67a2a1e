//! What is killed takes nothing else with it.

use std::fs;

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{ErrorCode, ExecutionRequest, OutputRange, Status, Timeout};
use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::EndCause;
use escher_tests::{
    DEADLINE, Daemon, Fifo, child_program, connect, exec, in_runtime, is_free, parent_of, shell,
    wait_started, watch,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_command_outlives_escherd_and_leaves_a_whole_log_and_exit_record() {
    let mut daemon = Daemon::start();
    let gate = Fifo::new(daemon.home(), "gate");
    let script = format!(
        "seq 1 50000; read line < {}; seq 1 50000 >&2; exit 7",
        gate.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    in_runtime(async { wait_started(&connect(&daemon).await, id).await });
    daemon.kill();
    gate.say("go");
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record, DEADLINE);

    let report = exit_record::read(&record).expect("a whole record");
    assert_eq!((report.id, report.exit), (id, Exit::Code(7)));
    assert_eq!(
        (&report.cause, report.leftovers),
        (&EndCause::Itself, Leftovers::None)
    );
    let numbers: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(report.output.stdout_bytes, numbers.len() as u64);
    assert_eq!(report.output.stderr_bytes, numbers.len() as u64);
    let log = fs::read_to_string(daemon.home().log(id)).unwrap();
    assert!(log == numbers.repeat(2), "{} bytes", log.len());
    let index = fs::metadata(daemon.home().index(id)).unwrap().len();
    assert!(
        index >= 3 * 16,
        "a header and a record for each stream: {index}"
    );
}

#[test]
fn a_command_without_output_leaves_its_exit_record_as_well() {
    let mut daemon = Daemon::start();
    let gate = Fifo::new(daemon.home(), "gate");
    let script = format!("read line < {}; kill -9 $$", gate.name());
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    in_runtime(async { wait_started(&connect(&daemon).await, id).await });
    daemon.kill();
    gate.say("go");
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record, DEADLINE);
    let report = exit_record::read(&record).unwrap();
    assert!(
        matches!(report.exit, Exit::Signal { signal: 9, .. }),
        "{report:?}"
    );
    assert!(!daemon.home().log(id).exists());
}

#[test]
fn timeout_and_kill_ladder_hold_without_escherd() {
    let mut daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let id = in_runtime(async {
        let client = connect(&daemon).await;
        let child_program = child_program();
        let request = ExecutionRequest {
            timeout: Timeout::After { ms: 2_000 },
            kill_grace_ms: Some(300),
            ..exec([
                child_program.to_str().unwrap(),
                "stubborn",
                lock.to_str().unwrap(),
            ])
        };
        let id = client.execute(request).await.unwrap().id;
        wait_started(&client, id).await;
        id
    });
    daemon.kill();
    let record = daemon.home().exit_record(id);
    watch::until_exists(&record, DEADLINE);
    let report = exit_record::read(&record).unwrap();
    assert_eq!(
        (&report.cause, report.ended_by_signal),
        (&EndCause::TimedOut, Some(9))
    );
    assert!(
        matches!(report.exit, Exit::Signal { signal: 9, .. }),
        "{report:?}"
    );
    assert!(is_free(&lock));
}

#[test]
fn many_commands_outlive_escherd() {
    let mut daemon = Daemon::start();
    let gates: Vec<Fifo> = (0..20)
        .map(|index| Fifo::new(daemon.home(), &format!("gate{index}")))
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
        gate.say("the end");
        let record = daemon.home().exit_record(id);
        watch::until_exists(&record, DEADLINE);
        let report = exit_record::read(&record).unwrap();
        assert_eq!((report.id, report.exit), (id, Exit::Code(status)));
        assert_eq!(
            fs::read_to_string(daemon.home().log(id)).unwrap(),
            "the end\n"
        );
    }
}

#[test]
fn a_client_notices_that_escherd_is_gone() {
    let mut daemon = Daemon::start();
    let ready = Fifo::new(daemon.home(), "ready");
    let script = format!("echo ready > {}; exec sleep 600", ready.name());
    let run = daemon.ctl().start([
        "run",
        "--reconnect",
        "none",
        "--timeout",
        "2s",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!(ready.hear(), "ready");
    daemon.kill();
    let ended = run.end().expect(125);
    assert!(!ended.stderr.is_empty());
    let ended = daemon.ctl().run(["run", "true"]).expect(125);
    assert!(ended.err().contains("escherd"), "{ended:?}");
}

#[test]
fn running_commands_outlive_the_launcher_and_the_next_submit_works() {
    let daemon = Daemon::start();
    let gate = Fifo::new(daemon.home(), "gate");
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
            // More than the ready shims can take: a new launcher has to be there.
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
        gate.say("go");
        let result = client.get_result(running).await.unwrap();
        assert_eq!(result.stdout, b"before\nafter\n");
        assert_eq!(result.record.outcome.unwrap().exit, Exit::Code(3));
    });
}

#[test]
fn a_stopped_launcher_keeps_new_commands_waiting_and_harms_none() {
    let daemon = Daemon::with_config("[daemon]\nwarm_shims = 1");
    let gate = Fifo::new(daemon.home(), "gate");
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
        // More than there are shims: some have to wait for the launcher.
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(client.execute(exec(["true"])).await.unwrap().id);
        }
        gate.say("go");
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

/// Nobody can know how such a command ended: it must be said, and nothing of it may stay.
#[test]
fn a_command_whose_shim_is_killed_is_lost() {
    let daemon = Daemon::start();
    let (child_program, lock) = (child_program(), daemon.home().work().join("lock"));
    in_runtime(async {
        let client = connect(&daemon).await;
        let request = exec([
            child_program.to_str().unwrap(),
            "holder",
            lock.to_str().unwrap(),
        ]);
        let id = client.execute(request).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        assert_eq!(&*output.next().await.unwrap().unwrap().data, b"ready\n");
        let pid = client.get_status(id).await.unwrap().pid.unwrap();
        let shim = parent_of(Pid::from_raw(pid.cast_signed())).unwrap();
        kill(shim, Signal::SIGKILL).unwrap();
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Lost);
        let outcome = record.outcome.unwrap();
        assert_eq!(outcome.exit, Exit::Unknown);
        assert_eq!(outcome.error.unwrap().code, ErrorCode::LOST);
        assert_eq!(outcome.leftovers, Leftovers::Killed);
        assert!(is_free(&lock), "the command has outlived its shim");
        // What it has written is there.
        assert_eq!(client.get_result(id).await.unwrap().stdout, b"ready\n");
        let id = client.execute(exec(["echo", "next"])).await.unwrap().id;
        assert_eq!(client.get_result(id).await.unwrap().stdout, b"next\n");
    });
}

#[test]
fn a_fresh_escherd_starts_on_the_folders_of_one_that_was_killed() {
    let mut first = Daemon::start();
    let gate = Fifo::new(first.home(), "gate");
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
    gate.say("go");
    let log = second.home().log(id);
    watch::until(&second.home().logs(), DEADLINE, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text == "done\n").then_some(())
    });
}
