//! What the largest legal request of each kind costs escherd, in instructions: no more than a bounded number for
//! each of its bytes, whatever is in its lists.

use escher_client::protocol::codec;
use escher_client::protocol::execution::MAX_VARIABLES;
use escher_client::protocol::id::MAX_REFERENCE_BYTES;
use escher_client::protocol::message::MAX_STDIN_BYTES;
use escher_client::{Client, ExecutionRequest, StdinMode, Target};
use escher_tests::{Daemon, connect, exec, in_runtime, largest, require_program};

/// How often each request is sent. What an escherd costs that gets none is subtracted.
const REPETITIONS: u64 = 3;

/// Most instructions for each byte of a request, most of which SHA-256 takes.
const PER_BYTE: u64 = 400;

/// Most instructions of a request that has next to no bytes: the start of a command takes most.
const PER_REQUEST: u64 = 2_000_000;

/// Returns how many instructions an escherd executes for `repetitions` of a request.
fn instructions(repetitions: u64, send: &impl AsyncFn(&Client, u64)) -> u64 {
    let daemon = Daemon::builder().counting_instructions().start();
    in_runtime(async {
        let client = connect(&daemon).await;
        for index in 0..repetitions {
            send(&client, index).await;
        }
    });
    let home = daemon.home().clone();
    daemon.stop();
    home.instructions()
}

/// Checks the cost of a request of this many bytes.
fn check(what: &str, bytes: usize, send: impl AsyncFn(&Client, u64)) {
    if !require_program("valgrind", "counting instructions") {
        return;
    }
    let (without, with) = (instructions(0, &send), instructions(REPETITIONS, &send));
    let each = with.saturating_sub(without) / REPETITIONS;
    let most = PER_REQUEST + PER_BYTE * bytes as u64;
    println!("{what}: {each} instructions for {bytes} bytes");
    assert!(
        each <= most,
        "{what}: {each} instructions, more than {most}"
    );
}

#[test]
fn of_the_largest_submission() {
    let bytes = codec::encode(&largest::submission("key".to_owned()))
        .unwrap()
        .len();
    check("a submission", bytes, async |client, index| {
        let id = client
            .execute(largest::submission(index.to_string()))
            .await
            .unwrap()
            .id;
        client.wait_for_completion(id).await.unwrap();
    });
}

/// The second half of the variables costs what the first does. It cost three times as much, when each was compared
/// with all before it.
#[test]
fn of_a_variable_does_not_depend_on_their_number() {
    if !require_program("valgrind", "counting instructions") {
        return;
    }
    let [none, half, all] = [0, MAX_VARIABLES / 2, MAX_VARIABLES].map(|count| {
        let submit = async |client: &Client, index: u64| {
            let mut request = largest::submission(index.to_string());
            request.environment.truncate(count);
            let id = client.execute(request).await.unwrap().id;
            client.wait_for_completion(id).await.unwrap();
        };
        instructions(REPETITIONS, &submit)
    });
    let (first, second) = (half - none, all - half);
    assert!(second < first * 3 / 2, "{first} and {second} instructions");
}

#[test]
fn of_the_largest_filter() {
    let bytes = codec::encode(&largest::selection()).unwrap().len();
    check("a list", bytes, async |client, _| {
        let mut list = client
            .list_executions(largest::selection().filter)
            .await
            .unwrap();
        while list.next().await.is_some() {}
    });
    check("a removal", bytes, async |client, _| {
        client.prune(largest::selection()).await.unwrap();
    });
}

#[test]
fn of_the_largest_input() {
    check("input", MAX_STDIN_BYTES, async |client, _| {
        let request = ExecutionRequest {
            stdin: StdinMode::Stream,
            ..exec(["cat"])
        };
        let id = client.execute(request).await.unwrap().id;
        client
            .write_stdin(id, 0, vec![b'x'; MAX_STDIN_BYTES], true)
            .await
            .unwrap();
        client.wait_for_completion(id).await.unwrap();
    });
}

#[test]
fn of_the_longest_reference() {
    let target = || Target::Reference("x".repeat(MAX_REFERENCE_BYTES).into());
    check("a status", MAX_REFERENCE_BYTES, async |client, _| {
        client.get_status(target()).await.unwrap_err();
    });
}
