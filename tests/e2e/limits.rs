//! At each limit there is a typed error, and others are still served.

use escher_client::{Client, ErrorCode, ExecutionRequest, OutputRange, Status};
use escher_tests::{Daemon, connect, exec, hold_connections, in_runtime, shell};
use futures_util::StreamExt;

#[test]
fn the_bytes_of_pending_requests_are_limited() {
    let daemon = Daemon::with_config(
        "[execution]\nmax_concurrent_executions = 1\nmax_pending_bytes = 200000",
    );
    // An escherd of root serves several users, and one of them may take half of the queue.
    let (fitting, code) = if nix::unistd::geteuid().is_root() {
        (2, ErrorCode::OVER_QUOTA)
    } else {
        (4, ErrorCode::QUEUE_FULL)
    };
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client = connect(&daemon).await;
        let running = client
            .execute(shell(&format!("read line < {}", gate.name())))
            .await
            .unwrap();
        let large = || ExecutionRequest {
            environment: vec![("X".into(), vec![b'x'; 40_000].into())],
            ..exec(["true"])
        };
        let mut ids = vec![running.id];
        for _ in 0..fitting {
            ids.push(client.execute(large()).await.unwrap().id);
        }
        let error = client.execute(large()).await.unwrap_err();
        let error = error.as_api().unwrap();
        assert_eq!((error.code, error.retry), (code, true));
        // A small one still fits.
        ids.push(client.execute(exec(["true"])).await.unwrap().id);
        gate.write_line("go");
        for id in ids {
            assert_eq!(
                client.wait_for_completion(id).await.unwrap().status,
                Status::Completed
            );
        }
        // There is room for a large one again.
        client.execute(large()).await.unwrap();
    });
}

#[test]
fn without_descriptors_connections_are_refused_with_a_message_and_ends_are_recorded() {
    let daemon = Daemon::builder().max_open_files(160).start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client: Client = connect(&daemon).await;
        let id = client
            .execute(shell(&format!("read line < {}; exit 5", gate.name())))
            .await
            .unwrap()
            .id;
        // As many connections as are accepted, and one more.
        let mut others = Vec::new();
        let refused = loop {
            match Client::connect(daemon.home().socket()).await {
                Ok(other) => others.push(other),
                Err(error) => break error,
            }
            assert!(others.len() < 1000, "there is no limit");
        };
        assert!(refused.to_string().contains("connections"), "{refused}");
        // Clients that connect and send nothing keep nobody from being served either.
        let silent = hold_connections(&daemon, 300, &[]);
        gate.write_line("go");
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Failed);
        let next = client.execute(exec(["echo", "on"])).await.unwrap().id;
        assert_eq!(client.get_result(next).await.unwrap().stdout, b"on\n");
        silent.close();
        drop(others);
        // There is room as soon as escherd has noticed that these have disconnected.
        while Client::connect(daemon.home().socket()).await.is_err() {}
    });
}

#[test]
fn more_readers_than_descriptors_get_an_error_to_retry() {
    let daemon = Daemon::builder().max_open_files(160).start();
    let gate = daemon.home().fifo("gate");
    in_runtime(async {
        let client: Client = connect(&daemon).await;
        let id = client
            .execute(shell(&format!("echo up; read line < {}", gate.name())))
            .await
            .unwrap()
            .id;
        let mut followers = Vec::new();
        let refused = loop {
            let mut follower = client.follow(id, OutputRange::default()).await.unwrap();
            match follower.next().await.unwrap() {
                Ok(_) => followers.push(follower),
                Err(error) => break error,
            }
            assert!(followers.len() < 200, "there is no limit");
        };
        let refused = refused.as_api().unwrap();
        assert_eq!((refused.code, refused.retry), (ErrorCode::OVERLOADED, true));
        assert!(!followers.is_empty());
        followers.pop();
        // There is room as soon as escherd has noticed that this one has stopped reading.
        loop {
            let mut again = client.follow(id, OutputRange::default()).await.unwrap();
            match again.next().await.unwrap() {
                Ok(_) => break,
                Err(error) => assert!(error.as_api().unwrap().retry, "{error}"),
            }
        }
        gate.write_line("go");
        client.wait_for_completion(id).await.unwrap();
    });
}

#[test]
fn memory_does_not_grow_with_finished_executions() {
    let daemon = Daemon::with_config("[execution]\nmax_in_memory_executions = 50");
    in_runtime(async {
        let client: Client = connect(&daemon).await;
        let run = async |count: usize| {
            for _ in 0..count {
                let request = ExecutionRequest {
                    environment: vec![("X".into(), vec![b'x'; 20_000].into())],
                    ..exec(["true"])
                };
                let id = client.execute(request).await.unwrap().id;
                client.wait_for_completion(id).await.unwrap();
            }
        };
        run(300).await;
        let before = escher_tests::resident_bytes(daemon.pid()).unwrap();
        run(1000).await;
        let after = escher_tests::resident_bytes(daemon.pid()).unwrap();
        // A thousand requests are 20 MB.
        assert!(
            after < before + 8 * 1024 * 1024,
            "from {before} to {after} bytes"
        );
    });
}

/// Number of commands of the longest run. `ESCHER_TEST_EXECUTIONS` overrides it.
fn long_run_executions() -> usize {
    let set = std::env::var("ESCHER_TEST_EXECUTIONS").ok();
    set.map_or(30_000, |text| text.parse().expect("a number"))
}

#[test]
fn memory_is_the_same_after_10000_commands_and_after_many_more() {
    const AT_ONCE: usize = 32;
    const WARM_UP: usize = 10_000;
    let daemon = Daemon::with_config("[execution]\nmax_in_memory_executions = 1000");
    in_runtime(async {
        let client: Client = connect(&daemon).await;
        let run = async |count: usize| {
            let runs = (0..count).map(async |_| {
                let id = client.execute(exec(["/bin/true"])).await.unwrap().id;
                let record = client.wait_for_completion(id).await.unwrap();
                assert_eq!(record.status, Status::Completed);
            });
            let mut runs = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE);
            while runs.next().await.is_some() {}
        };
        run(WARM_UP).await;
        let before = escher_tests::resident_bytes(daemon.pid()).unwrap();
        run(long_run_executions() - WARM_UP).await;
        let after = escher_tests::resident_bytes(daemon.pid()).unwrap();
        let many = long_run_executions();
        let ratio = after as f64 / before as f64;
        let message = format!("{before} bytes after {WARM_UP}, {after} after {many}: {ratio:.3}");
        eprintln!("{message}");
        assert!(ratio < 1.1, "{message}");
        assert_eq!(client.total_count().await.unwrap(), many as u64);
    });
}
