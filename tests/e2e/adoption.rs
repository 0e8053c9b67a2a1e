//! A new escherd takes over from one that was stopped or killed.

use std::fs;
use std::sync::Arc;

use escher_client::protocol::Exit;
use escher_client::protocol::message::CancelAnswer;
use escher_client::{
    CancelMode, Client, ExecutionId, ExecutionRequest, OutputRange, Status, StdinMode, Timeout,
};
use escher_tests::{
    Daemon, Fifo, Home, child_program, collect, connect, exec, in_runtime, is_unlocked, next_chunk,
    parent_of, shell, wait_started, watch,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How the first escherd ends.
#[derive(Clone, Copy)]
enum End {
    Killed,
    Stopped,
}

/// Ends an escherd and starts another in its directories. Returns both: the first still watches over the
/// processes that it has left.
fn replace(mut first: Daemon, end: End) -> (Daemon, Daemon) {
    let home = first.home().clone();
    match end {
        End::Killed => first.kill(),
        End::Stopped => drop(first.terminate()),
    }
    let second = Daemon::builder().home(&home).leave_commands().start();
    (first, second)
}

fn start_first() -> Daemon {
    Daemon::builder().leave_commands().start()
}

/// Starts a shell that prints `before`, waits for a line, prints `after` and that line, and exits with 7.
/// Returns once it has started.
fn start_waiting_command(daemon: &Daemon, gate: &Fifo) -> ExecutionId {
    let script = format!(
        "echo before; read line < {}; echo after $line; echo err >&2; exit 7",
        gate.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    in_runtime(async {
        let client = connect(daemon).await;
        wait_started(&client, id).await;
    });
    id
}

#[test]
fn a_running_command_is_adopted_with_status_output_and_end() {
    for end in [End::Killed, End::Stopped] {
        let first = start_first();
        let gate = first.home().fifo("gate");
        let id = start_waiting_command(&first, &gate);
        let before = first.ctl().inspect(id);
        let (first, second) = replace(first, end);
        let after = second.ctl().inspect(id);
        for field in [
            "number",
            "status",
            "pid",
            "started_at",
            "submitted_at",
            "command",
        ] {
            assert_eq!(before[field], after[field], "{field}");
        }
        assert_eq!(after["status"], "running");
        in_runtime(async {
            let client = connect(&second).await;
            let follower = client.follow(id, OutputRange::default()).await.unwrap();
            gate.write_line("go");
            let (stdout, stderr, _) = collect(follower, 0).await;
            assert_eq!(
                (&stdout[..], &stderr[..]),
                (&b"before\nafter go\n"[..], &b"err\n"[..])
            );
            let record = client.wait_for_completion(id).await.unwrap();
            assert_eq!(record.outcome.unwrap().exit, Exit::Code(7));
        });
        // An adopted shim takes further commands.
        assert_eq!(
            second.ctl().run(["run", "echo", "next"]).expect(0).out(),
            "next\n"
        );
        drop(second);
        drop(first);
    }
}

#[test]
fn an_end_without_escherd_is_known_from_the_exit_record() {
    let mut first = start_first();
    let gate = first.home().fifo("gate");
    let id = start_waiting_command(&first, &gate);
    first.kill();
    gate.write_line("alone");
    let record = first.home().exit_record(id);
    watch::until_exists(&record);
    let second = Daemon::builder()
        .home(first.home())
        .leave_commands()
        .start();
    let result = second.ctl().json(["result", &id.to_string()]);
    assert_eq!(
        (&result["status"], &result["exit_code"]),
        (&"failed".into(), &7.into())
    );
    assert_eq!(result["stdout"], "before\nafter alone\n");
    // Once the end is in the store, the record is removed.
    watch::until_removed(&record);
}

#[test]
fn an_adopted_command_is_cancelled_signalled_and_timed_out_as_any_other() {
    let first = start_first();
    let locks = ["cancelled", "signalled"].map(|name| first.home().work().join(name));
    let child_program = child_program();
    let ids = in_runtime(async {
        let client = connect(&first).await;
        let mut ids = Vec::new();
        for lock in &locks {
            let request = exec([
                child_program.to_str().unwrap(),
                "hold-lock",
                lock.to_str().unwrap(),
            ]);
            let id = client.execute(request).await.unwrap().id;
            let mut output = client.follow(id, OutputRange::default()).await.unwrap();
            assert_eq!(&*next_chunk(&mut output).await.data, b"ready\n");
            ids.push(id);
        }
        let timed_out = ExecutionRequest {
            timeout: Timeout::After { ms: 1_500 },
            ..exec(["sleep", "600"])
        };
        ids.push(client.execute(timed_out).await.unwrap().id);
        ids
    });
    let (first, second) = replace(first, End::Killed);
    in_runtime(async {
        let client = connect(&second).await;
        let outcome = client.cancel(ids[0], CancelMode::Graceful).await.unwrap();
        assert_eq!(outcome, CancelAnswer::Ending);
        client.signal(ids[1], 10).await.unwrap();
        for (id, status) in ids
            .iter()
            .zip([Status::Cancelled, Status::Failed, Status::Timeout])
        {
            let record = client.wait_for_completion(*id).await.unwrap();
            assert_eq!(record.status, status, "{record:?}");
        }
    });
    for lock in &locks {
        assert!(is_unlocked(lock), "{} is still held", lock.display());
    }
    drop((second, first));
}

#[test]
fn a_cancel_is_not_forgotten_by_a_restart() {
    let first = start_first();
    let lock = first.home().work().join("lock");
    let id = in_runtime(async {
        let client = connect(&first).await;
        let child_program = child_program();
        let request = ExecutionRequest {
            kill_grace_ms: Some(3_000),
            ..exec([
                child_program.to_str().unwrap(),
                "ignore-sigterm",
                lock.to_str().unwrap(),
            ])
        };
        let id = client.execute(request).await.unwrap().id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        assert_eq!(&*next_chunk(&mut output).await.data, b"ready\n");
        client.cancel(id, CancelMode::Graceful).await.unwrap();
        id
    });
    let (first, second) = replace(first, End::Killed);
    let record = second.ctl().inspect(id);
    assert!(
        record["cancelled_by"].is_object() || record["cancelled_by"].is_string(),
        "{record}"
    );
    let ended = second.ctl().run(["wait", &id.to_string()]);
    assert_eq!(ended.code, 128 + 9, "{ended:?}");
    drop((second, first));
}

#[test]
fn standard_input_goes_on_at_the_acknowledged_offset() {
    let first = start_first();
    let id = in_runtime(async {
        let client = connect(&first).await;
        let request = ExecutionRequest {
            stdin: StdinMode::Stream,
            ..exec(["cat"])
        };
        let id = client.execute(request).await.unwrap().id;
        assert_eq!(
            client
                .write_stdin(id, 0, &b"first "[..], false)
                .await
                .unwrap(),
            6
        );
        id
    });
    let (first, second) = replace(first, End::Killed);
    in_runtime(async {
        let client = connect(&second).await;
        // A repeat with something new.
        assert_eq!(
            client
                .write_stdin(id, 0, &b"first second"[..], false)
                .await
                .unwrap(),
            12
        );
        let gap = client
            .write_stdin(id, 20, &b"x"[..], false)
            .await
            .unwrap_err();
        assert_eq!(
            gap.as_api().unwrap().code,
            escher_client::ErrorCode::STDIN_OFFSET
        );
        assert_eq!(
            client
                .write_stdin(id, 12, &b" third"[..], true)
                .await
                .unwrap(),
            18
        );
        let result = client.get_result(id).await.unwrap();
        assert_eq!(result.stdout, b"first second third");
        assert_eq!(result.record.status, Status::Completed);
    });
    drop((second, first));
}

#[test]
fn the_queue_keeps_its_order_over_a_restart_with_a_lower_limit() {
    let first = Daemon::builder()
        .config("[execution]\nmax_concurrent_executions = 3")
        .leave_commands()
        .start();
    let home = first.home().clone();
    let gates: Vec<Fifo> = (0..3)
        .map(|index| home.fifo(&format!("gate{index}")))
        .collect();
    let order = home.work().join("order");
    let (running, waiting) = in_runtime(async {
        let client = connect(&first).await;
        let mut running = Vec::new();
        for gate in &gates {
            let request = shell(&format!("read line < {}", gate.name()));
            running.push(client.execute(request).await.unwrap().id);
        }
        for id in &running {
            wait_started(&client, *id).await;
        }
        let mut waiting = Vec::new();
        for index in 0..10 {
            let request = shell(&format!("echo {index} >> {}", order.display()));
            waiting.push(client.execute(request).await.unwrap().id);
        }
        (running, waiting)
    });
    let mut first = first;
    first.kill();
    // Fewer may run now than do.
    let second = Daemon::builder()
        .home(&home)
        .config("[execution]\nmax_concurrent_executions = 1")
        .leave_commands()
        .start();
    in_runtime(async {
        let client = connect(&second).await;
        let info = client.info().await.unwrap();
        assert_eq!((info.running, info.pending), (3, 10));
        for gate in &gates[..2] {
            gate.write_line("go");
        }
        for id in &running[..2] {
            client.wait_for_completion(*id).await.unwrap();
        }
        let info = client.info().await.unwrap();
        assert_eq!(
            (info.running, info.pending),
            (1, 10),
            "the last one is as many as may run"
        );
        gates[2].write_line("go");
        for id in &waiting {
            assert_eq!(
                client.wait_for_completion(*id).await.unwrap().status,
                Status::Completed
            );
        }
    });
    let numbers: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    assert_eq!(
        fs::read_to_string(&order)
            .unwrap()
            .lines()
            .collect::<Vec<_>>(),
        numbers
    );
    drop((second, first));
}

/// Kills escherd, and makes the next one believe that the host was rebooted meanwhile.
fn reboot(first: &mut Daemon, config: &str) -> Daemon {
    first.kill();
    let home: Arc<Home> = first.home().clone();
    fs::write(home.state().join("boot-id"), "another\n").unwrap();
    Daemon::builder()
        .home(&home)
        .config(config)
        .leave_commands()
        .start()
}

#[test]
fn after_a_reboot_pending_commands_start_or_are_dropped_as_configured() {
    for (on_boot, expected) in [("resume", Status::Completed), ("drop", Status::Cancelled)] {
        let serial = "[execution]\nmax_concurrent_executions = 1";
        let mut first = Daemon::builder().config(serial).leave_commands().start();
        let gate = first.home().fifo("gate");
        let (running, waiting) = in_runtime(async {
            let client = connect(&first).await;
            let request = shell(&format!("read line < {}", gate.name()));
            let running = client.execute(request).await.unwrap().id;
            wait_started(&client, running).await;
            (running, client.execute(exec(["true"])).await.unwrap().id)
        });
        let config = format!("{serial}\n[daemon]\non_boot = \"{on_boot}\"");
        let second = reboot(&mut first, &config);
        in_runtime(async {
            let client = connect(&second).await;
            // Its shim lives on, as it would not after a real reboot, and reports the truth.
            assert_eq!(
                client.get_status(running).await.unwrap().status,
                Status::Running
            );
            gate.write_line("go");
            client.wait_for_completion(running).await.unwrap();
            let record = client.wait_for_completion(waiting).await.unwrap();
            assert_eq!(record.status, expected, "{record:?}");
            if on_boot == "drop" {
                let by = record.cancelled_by.unwrap();
                assert_eq!(by, escher_client::protocol::Canceller::Host);
            }
        });
        drop((second, first));
    }
}

#[test]
fn a_shim_that_was_killed_without_escherd_is_known_by_its_claim() {
    let mut first = start_first();
    let home = first.home().clone();
    let lock = home.work().join("lock");
    let (id, pid) = in_runtime(async {
        let client = connect(&first).await;
        let child_program = child_program();
        let id = client
            .execute(exec([
                child_program.to_str().unwrap(),
                "hold-lock",
                lock.to_str().unwrap(),
            ]))
            .await
            .unwrap()
            .id;
        let mut output = client.follow(id, OutputRange::default()).await.unwrap();
        output.next().await.unwrap().unwrap();
        (id, client.get_status(id).await.unwrap().pid.unwrap())
    });
    let shim = parent_of(Pid::from_raw(pid.cast_signed())).unwrap();
    first.kill();
    kill(shim, Signal::SIGKILL).unwrap();
    let second = Daemon::builder()
        .home(first.home())
        .leave_commands()
        .start();
    second.ctl().wait(id, 125);
    let record = second.ctl().inspect(id);
    assert_eq!(record["status"], "lost", "{record}");
    assert_eq!(
        second.ctl().run(["run", "echo", "on"]).expect(0).out(),
        "on\n"
    );
    drop(second);
    drop(first);
    assert!(is_unlocked(&lock), "the command has outlived its shim");
}

#[test]
fn history_and_events_continue_over_a_restart() {
    let first = start_first();
    for index in 0..5 {
        let _ = first
            .ctl()
            .run(["run", "--name", &format!("job{index}"), "true"])
            .expect(0);
    }
    let (events_before, numbers_before) = snapshot(&first);
    let (first, second) = replace(first, End::Killed);
    let (events, numbers) = snapshot(&second);
    assert_eq!((&events, &numbers), (&events_before, &numbers_before));
    let record = second.ctl().inspect("job2");
    assert_eq!(record["status"], "completed");
    let _ = second
        .ctl()
        .run(["run", "--name", "job5", "true"])
        .expect(0);
    let (events, numbers) = snapshot(&second);
    assert!(events.starts_with(&events_before) && events.len() > events_before.len());
    let sorted = events.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(
        sorted && numbers[0] == numbers_before[0] + 1,
        "{events:?} {numbers:?}"
    );
    drop((second, first));
}

/// The sequence numbers of all events, and the numbers of all executions.
fn snapshot(daemon: &Daemon) -> (Vec<u64>, Vec<u64>) {
    in_runtime(async {
        let client: Client = connect(daemon).await;
        let request = escher_client::EventsRequest {
            follow: false,
            ..escher_client::EventsRequest::default()
        };
        let mut events = client.events(request).await.unwrap();
        let mut sequences = Vec::new();
        while let Some(event) = events.next().await {
            sequences.push(event.unwrap().sequence);
        }
        let all = escher_client::ListFilter {
            all: true,
            ..escher_client::ListFilter::default()
        };
        let mut executions = client.list_executions(all).await.unwrap();
        let mut numbers = Vec::new();
        while let Some(record) = executions.next().await {
            numbers.push(record.unwrap().number);
        }
        (sequences, numbers)
    })
}
