//! Requests that are too large to wait in escherd's memory.

use std::sync::Arc;

use escher_client::protocol::execution::KEPT_COMMAND_BYTES;
use escher_client::protocol::message::ListFilter;
use escher_client::{
    CancelMode, Client, Command, ExecutionId, ExecutionRecord, ExecutionRequest, Status,
};
use escher_tests::{Daemon, DaemonBuilder, connect, exec, in_runtime, shell};

/// Bytes of the argument and of the variable of a large request; the kernel allows a little more.
const LENGTH: usize = 100_000;

fn builder() -> DaemonBuilder {
    Daemon::builder().config("[execution]\nmax_concurrent_executions = 1\n")
}

/// Returns a large request, whose command fails unless it gets all of it.
fn large() -> ExecutionRequest {
    let check = format!("test ${{#0}} = {LENGTH} && test ${{#X}} = {LENGTH}");
    ExecutionRequest {
        environment: vec![("X".into(), vec![b'e'; LENGTH].into())],
        ..exec(["sh", "-c", &check, &"a".repeat(LENGTH)])
    }
}

/// Checks that a record has the whole command, or once it has finished, as much of it as is kept.
fn check_record(record: &ExecutionRecord, whole: &Command) {
    if !record.status.is_finished() {
        assert!(record.command == *whole && !record.command_cut);
        return;
    }
    let (kept, whole) = (record.command.to_argv(), whole.to_argv());
    let bytes: usize = kept.iter().map(|word| word.len()).sum();
    assert_eq!(kept[..3], whole[..3]);
    assert!(
        record.command_cut && bytes + kept.len() == KEPT_COMMAND_BYTES,
        "{bytes}"
    );
}

/// Checks that the record of an execution has the whole command, and the list its beginning.
async fn check_command(client: &Client, id: ExecutionId, whole: &Command) {
    check_record(&client.get_status(id).await.unwrap(), whole);
    let all = ListFilter {
        all: true,
        ..ListFilter::default()
    };
    let mut list = client.list_executions(all).await.unwrap();
    while let Some(listed) = list.next().await {
        let listed = listed.unwrap();
        if listed.id == id {
            let (Command::Exec { argv: whole }, Command::Exec { argv }) = (whole, &listed.command)
            else {
                panic!("{listed:?}");
            };
            assert_eq!(argv[..3], whole[..3]);
            assert!(listed.command_cut && argv[3].len() < LENGTH);
            return;
        }
    }
    panic!("it is not in the list");
}

#[test]
fn a_large_request_that_has_waited_runs_whole() {
    let daemon = builder().start();
    let gate = daemon.home().fifo("gate");
    let request = large();
    in_runtime(async {
        let client = connect(&daemon).await;
        let blocked = shell(&format!("read line < {}", gate.name()));
        client.execute(blocked).await.unwrap();
        let command = request.command.clone();
        let id = client.execute(request.clone()).await.unwrap().id;
        let withdrawn = client.execute(request).await.unwrap().id;
        check_command(&client, id, &command).await;
        client
            .cancel(withdrawn, CancelMode::Graceful)
            .await
            .unwrap();
        check_command(&client, withdrawn, &command).await;
        gate.write_line("go");
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Completed);
        check_record(&record, &command);
        check_command(&client, id, &command).await;
    });
}

#[test]
fn a_large_request_that_waits_is_whole_after_a_crash() {
    let mut daemon = builder().start();
    let home = Arc::clone(daemon.home());
    let gate = home.fifo("gate");
    let request = ExecutionRequest {
        key: Some("once".into()),
        ..large()
    };
    let id = in_runtime(async {
        let client = connect(&daemon).await;
        let blocked = shell(&format!("read line < {}", gate.name()));
        client.execute(blocked).await.unwrap();
        client.execute(request.clone()).await.unwrap().id
    });
    daemon.kill();
    let daemon = builder().home(&home).start();
    in_runtime(async {
        let client = connect(&daemon).await;
        check_command(&client, id, &request.command).await;
        let again = client.execute(request.clone()).await.unwrap();
        assert_eq!((again.id, again.existing), (id, true));
        gate.write_line("go");
        let record = client.wait_for_completion(id).await.unwrap();
        assert_eq!(record.status, Status::Completed);
        check_record(&record, &request.command);
    });
}
