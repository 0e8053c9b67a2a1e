//! What clients do in a cycle, and what they are told.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use escher_client::protocol::message::CancelOutcome;
use escher_client::protocol::{ExecutionRecord, OutputStream};
use escher_client::{
    CancelMode, Client, Connector, ErrorCode, ExecutionId, ExecutionRequest, OutputRange,
    StdinMode, Timeout,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Random;
use super::plan::{Fate, Planned};
use crate::{child_program, exec};

/// What a client knows in the end.
pub(super) struct Told {
    pub(super) planned: Planned,
    pub(super) id: ExecutionId,
    pub(super) record: ExecutionRecord,
    /// What it has seen of the output, as it came.
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) cancel: Option<CancelOutcome>,
    /// Bytes of standard input that were taken, if that could be told.
    pub(super) accepted_stdin: Option<u64>,
}

/// Without the output, which may be long.
impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("planned", &self.planned)
            .field("record", &self.record)
            .field("stdout_bytes", &self.stdout.len())
            .field("stderr_bytes", &self.stderr.len())
            .field("cancel", &self.cancel)
            .field("accepted_stdin", &self.accepted_stdin)
            .finish_non_exhaustive()
    }
}

/// How long a client waits for another escherd.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sees all of `planned` through.
pub(super) async fn see_through(
    socket: &Path,
    accounts: &Path,
    planned: Vec<Planned>,
) -> Vec<Told> {
    let client = Connector::new(socket)
        .reconnect_timeout(PATIENCE)
        .connect()
        .await
        .expect("escherd serves");
    let mut tasks = JoinSet::new();
    for one in planned {
        tasks.spawn(see_one(client.clone(), accounts.to_owned(), one));
    }
    tasks.join_all().await
}

async fn see_one(client: Client, accounts: std::path::PathBuf, planned: Planned) -> Told {
    sleep(planned.after).await;
    let account = accounts.join(&planned.key);
    let request = request(&planned, &account);
    let context = format!("{planned:?}");
    let submitted = client.execute(request).await.expect(&context);
    let id = submitted.id;
    let (followed, record, cancel, accepted_stdin) = tokio::join!(
        follow(&client, id, &context),
        async { client.wait_for_completion(id).await.expect(&context) },
        cancel(&client, id, planned.fate, &context),
        feed(&client, id, &planned, &context),
    );
    let (stdout, stderr) = followed;
    Told {
        planned,
        id,
        record,
        stdout,
        stderr,
        cancel,
        accepted_stdin,
    }
}

fn request(planned: &Planned, account: &Path) -> ExecutionRequest {
    let child_program = child_program();
    let text = |number: u64| number.to_string();
    let words = [
        child_program.to_str().expect("UTF-8").to_owned(),
        "witness".to_owned(),
        account.to_str().expect("UTF-8").to_owned(),
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
        timeout: match planned.fate {
            Fate::TimedOut { after_ms } => Timeout::After { ms: after_ms },
            Fate::Itself | Fate::Cancelled { .. } => Timeout::Default,
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
        let chunk = chunk.expect(context);
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
    fate: Fate,
    context: &str,
) -> Option<CancelOutcome> {
    let Fate::Cancelled { after, kill } = fate else {
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
pub(super) fn input(planned: &Planned) -> Vec<u8> {
    let mut random = Random::new(planned.key.len() as u64 + planned.lines);
    let length = planned.stdin.unwrap_or(0);
    (0..length)
        .map(|_| random.number().to_le_bytes()[0])
        .collect()
}

async fn feed(client: &Client, id: ExecutionId, planned: &Planned, context: &str) -> Option<u64> {
    planned.stdin?;
    let mut stdin = client.stdin(id);
    let fed = async {
        stdin.write(&input(planned)).await?;
        stdin.finish().await
    };
    match fed.await {
        Ok(length) => Some(length),
        Err(error) => {
            // It was over: before it had read everything, or before it could be told that it had.
            let code = error.as_api().map(|error| error.code);
            let is_expected = [ErrorCode::STDIN_CLOSED, ErrorCode::NOT_RUNNING].map(Some);
            assert!(is_expected.contains(&code), "{error}: {context}");
            None
        }
    }
}
