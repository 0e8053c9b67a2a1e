//! Many commands at once, the limit of running ones, and the queue.

use std::collections::HashMap;
use std::fs;

use escher_client::{ErrorCode, ExecutionRequest, Status};
use escher_tests::{Daemon, child_program, connect, exec, in_runtime, shell, wait_started};

/// The commands count each other, and the first of them wait until the limit is reached: never more than 20
/// run at once, and not fewer either.
#[test]
fn of_1000_commands_20_run_at_a_time_and_all_results_are_right() {
    const COMMANDS: usize = 1000;
    const LIMIT: usize = 20;
    const CONNECTIONS: usize = 8;
    let daemon = Daemon::with_config(&format!(
        "[execution]\nmax_concurrent_executions = {LIMIT}\n"
    ));
    let directory = daemon.home().work().join("counters");
    fs::create_dir(&directory).unwrap();
    let program = child_program();
    let counter = |index: usize| {
        exec([
            program.to_str().unwrap(),
            "count-concurrency",
            directory.to_str().unwrap(),
            &index.to_string(),
            &LIMIT.to_string(),
        ])
    };
    let numbers = in_runtime(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(connect(&daemon).await);
        }
        let runs = (0..COMMANDS).map(|index| {
            let client = &clients[index % CONNECTIONS];
            let request = counter(index);
            async move {
                let submitted = client.execute(request).await.unwrap();
                let result = client.get_result(submitted.id).await.unwrap();
                assert_eq!(
                    String::from_utf8_lossy(&result.stdout),
                    format!("{index}\n")
                );
                assert!(
                    result.stderr.is_empty(),
                    "{:?}",
                    String::from_utf8_lossy(&result.stderr)
                );
                let outcome = result.record.outcome.unwrap();
                let code = i32::try_from(index % 7).unwrap();
                assert_eq!(outcome.exit, escher_client::protocol::Exit::Code(code));
                (index, submitted.number)
            }
        });
        futures_util::future::join_all(runs).await
    });
    let counts = fs::read_to_string(directory.join("counts")).unwrap();
    let counts: Vec<usize> = counts
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(
        counts,
        [0, COMMANDS, LIMIT],
        "running now, started, most at once"
    );

    // A command that takes its first step was started after all that were submitted before it. Of these at
    // most LIMIT - 1, which run beside it, may not have taken theirs.
    let order = fs::read_to_string(directory.join("order")).unwrap();
    let number_of: HashMap<usize, u64> = numbers.into_iter().collect();
    let order: Vec<u64> = order
        .lines()
        .map(|line| number_of[&line.parse().unwrap()])
        .collect();
    for (step, number) in order.iter().enumerate() {
        let steps = order[..=step].iter();
        let earlier = steps.filter(|other| *other <= number).count() as u64;
        assert!(
            number - earlier < LIMIT as u64,
            "number {number} took its first step too early"
        );
    }
}

#[test]
fn with_a_limit_of_one_commands_run_in_the_order_of_submission() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let list = daemon.home().work().join("list");
    in_runtime(async {
        let client = connect(&daemon).await;
        let mut ids = Vec::new();
        for index in 0..100 {
            let request = shell(&format!("echo {index} >> {}", list.display()));
            ids.push(client.execute(request).await.unwrap().id);
        }
        for id in ids {
            assert_eq!(
                client.wait_for_completion(id).await.unwrap().status,
                Status::Completed
            );
        }
    });
    let expected: String = (0..100).map(|index| format!("{index}\n")).collect();
    assert_eq!(fs::read_to_string(list).unwrap(), expected);
}

#[test]
fn a_full_queue_refuses_with_an_error_to_retry() {
    let daemon = Daemon::with_config(
        "[execution]\nmax_concurrent_executions = 1\nmax_pending_executions = 4\n",
    );
    let gate = daemon.home().fifo("gate");
    let blocked = shell(&format!("read line < {}", gate.name()));
    in_runtime(async {
        let client = connect(&daemon).await;
        // An escherd of root serves several users, and one of them may take half of the queue.
        let (pending, code) = if nix::unistd::geteuid().is_root() {
            (2, ErrorCode::OVER_QUOTA)
        } else {
            (4, ErrorCode::QUEUE_FULL)
        };
        let mut ids = Vec::new();
        for _ in 0..=pending {
            ids.push(client.execute(blocked.clone()).await.unwrap().id);
        }
        let error = client.execute(blocked.clone()).await.unwrap_err();
        let error = error.as_api().expect("a typed error").clone();
        assert_eq!(error.code, code);
        assert!(error.retry);
        wait_started(&client, ids[0]).await;
        let info = client.info().await.unwrap();
        assert_eq!((info.running, info.pending), (1, pending));
        for id in ids {
            gate.write_line("go");
            assert_eq!(
                client.wait_for_completion(id).await.unwrap().status,
                Status::Completed
            );
        }
        client
            .execute(exec(["true"]))
            .await
            .expect("there is room again");
    });
    let _ = daemon.ctl().run(["run", "true"]).expect(0);
}

#[test]
fn a_pending_command_can_be_cancelled() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let gate = daemon.home().fifo("gate");
    let ctl = daemon.ctl();
    let running = ctl.submit(["sh", "-c", &format!("read line < {}", gate.name())]);
    let waiting = ctl.submit(["--name", "waiting", "touch", "never"]);
    let after = ctl.submit(["echo", "after"]);
    let record = ctl.inspect(waiting);
    assert_eq!(record["status"], "pending");
    assert!(
        record["started_at"].is_null() && record["pid"].is_null(),
        "{record}"
    );
    let _ = ctl.run(["cancel", "waiting"]).expect(0);
    ctl.wait("waiting", 143);
    assert_eq!(ctl.inspect(waiting)["status"], "cancelled");
    gate.write_line("go");
    ctl.wait(running, 0);
    assert_eq!(
        ctl.run(["attach".to_owned(), after.to_string()])
            .expect(0)
            .out(),
        "after\n"
    );
    assert!(!daemon.home().work().join("never").exists());
}

#[test]
fn a_pending_command_can_be_followed() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 1\n");
    let gate = daemon.home().fifo("gate");
    let blocker = shell(&format!("read line < {}", gate.name()));
    in_runtime(async {
        let client = connect(&daemon).await;
        client.execute(blocker).await.unwrap();
        let second = ExecutionRequest {
            name: Some("second".into()),
            ..exec(["echo", "at last"])
        };
        client.execute(second).await.unwrap();
        let output = client.follow("second", Default::default()).await.unwrap();
        gate.write_line("go");
        let (stdout, _, _) = escher_tests::collect(output, 0).await;
        assert_eq!(stdout, b"at last\n");
    });
}
