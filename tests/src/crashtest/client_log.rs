//! What clients do in a cycle, and the answers that they get.

use std::fmt;
use std::path::{Path, PathBuf};

use escher_client::protocol::message::CancelAnswer;
use escher_client::protocol::{ExecutionRecord, OutputStream};
use escher_client::{
    CancelMode, Client, Connector, ErrorCode, ExecutionId, ExecutionRequest, OutputRange,
    StdinMode, Timeout,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::plan::{PlannedEnd, PlannedExecution};
use crate::Random;
use crate::{DEADLINE, child_program, exec};

/// What a client knows about one execution in the end.
pub(super) struct ClientLog {
    pub(super) planned: PlannedExecution,
    pub(super) id: ExecutionId,
    pub(super) record: ExecutionRecord,
    /// The output that it has followed.
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) cancel: Option<CancelAnswer>,
    /// Bytes of standard input that the command has taken, if escherd could tell.
    pub(super) accepted_stdin: Option<u64>,
}

/// Without the output, which may be long.
impl fmt::Debug for ClientLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLog")
            .field("planned", &self.planned)
            .field("record", &self.record)
            .field("stdout_bytes", &self.stdout.len())
            .field("stderr_bytes", &self.stderr.len())
            .field("cancel", &self.cancel)
            .field("accepted_stdin", &self.accepted_stdin)
            .finish_non_exhaustive()
    }
}

/// Submits all executions of a plan and follows each to its end. Calls `on_connected` first, once the
/// client is connected: only from then on it reconnects.
pub(super) async fn run_all(
    socket: &Path,
    run_records: &Path,
    planned: Vec<PlannedExecution>,
    on_connected: impl FnOnce(),
) -> Vec<ClientLog> {
    let client = Connector::new(socket)
        .reconnect_timeout(DEADLINE)
        .connect()
        .await
        .expect("escherd serves");
    on_connected();
    let mut tasks = JoinSet::new();
    for execution in planned {
        let record = run_records.join(&execution.key);
        tasks.spawn(run_one(client.clone(), record, execution));
    }
    tasks.join_all().await
}

async fn run_one(client: Client, run_record: PathBuf, planned: PlannedExecution) -> ClientLog {
    // A random instant is what is wanted, not a time at which something has happened.
    sleep(planned.after).await;
    let request = request(&planned, &run_record);
    let context = format!("{planned:?}");
    let submitted = client.execute(request).await.expect(&context);
    let id = submitted.id;
    let (followed, record, cancel, accepted_stdin) = tokio::join!(
        follow(&client, id, &context),
        async { client.wait_for_completion(id).await.expect(&context) },
        cancel(&client, id, planned.end, &context),
        write_stdin(&client, id, &planned, &context),
    );
    let (stdout, stderr) = followed;
    ClientLog {
        planned,
        id,
        record,
        stdout,
        stderr,
        cancel,
        accepted_stdin,
    }
}

fn request(planned: &PlannedExecution, run_record: &Path) -> ExecutionRequest {
    let child_program = child_program();
    let text = |number: u64| number.to_string();
    let words = [
        child_program.to_str().expect("UTF-8").to_owned(),
        "record-run".to_owned(),
        run_record.to_str().expect("UTF-8").to_owned(),
        planned.key.clone(),
        text(planned.lines),
        text(planned.pause_ms),
        planned.stdin.is_some().to_string(),
        planned.code.to_string(),
        planned.stays.to_string(),
    ];
    ExecutionRequest {
        key: Some(planned.key.as_str().into()),
        stdin: match planned.stdin {
            Some(_) => StdinMode::Stream,
            None => StdinMode::Null,
        },
        timeout: match planned.end {
            PlannedEnd::TimedOut { after_ms } => Timeout::After { ms: after_ms },
            PlannedEnd::ByItself | PlannedEnd::Cancelled { .. } => Timeout::Default,
        },
        kill_grace_ms: Some(300),
        ..exec(words)
    }
}

async fn follow(client: &Client, id: ExecutionId, context: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut output = client
        .follow(id, OutputRange::default())
        .await
        .expect(context);
    let mut offset = 0;
    while let Some(chunk) = output.next().await {
        let chunk = chunk.expect(context).into_chunk().expect(context);
        assert_eq!(chunk.offset, offset, "a gap or a repeat: {context}");
        offset += chunk.data.len() as u64;
        match chunk.stream {
            OutputStream::Stdout => stdout.extend_from_slice(&chunk.data),
            OutputStream::Stderr => stderr.extend_from_slice(&chunk.data),
        }
    }
    (stdout, stderr)
}

async fn cancel(
    client: &Client,
    id: ExecutionId,
    end: PlannedEnd,
    context: &str,
) -> Option<CancelAnswer> {
    let PlannedEnd::Cancelled { after, kill } = end else {
        return None;
    };
    sleep(after).await;
    let mode = if kill {
        CancelMode::Kill
    } else {
        CancelMode::Graceful
    };
    Some(client.cancel(id, mode).await.expect(context))
}

/// The bytes that a command is given to copy.
pub(super) fn input(planned: &PlannedExecution) -> Vec<u8> {
    let mut random = Random::new(planned.key.len() as u64 + planned.lines);
    let length = planned.stdin.unwrap_or(0);
    (0..length)
        .map(|_| random.number().to_le_bytes()[0])
        .collect()
}

async fn write_stdin(
    client: &Client,
    id: ExecutionId,
    planned: &PlannedExecution,
    context: &str,
) -> Option<u64> {
    planned.stdin?;
    let mut stdin = client.stdin(id);
    let written = async {
        stdin.write(&input(planned)).await?;
        stdin.finish().await
    };
    match written.await {
        Ok(length) => Some(length),
        Err(error) => {
            // The command has ended before it had read everything, or before escherd could confirm it.
            let code = error.as_api().map(|error| error.code);
            let expected = [ErrorCode::STDIN_CLOSED, ErrorCode::NOT_RUNNING].map(Some);
            assert!(expected.contains(&code), "{error}: {context}");
            None
        }
    }
}
