//! Acting on executions: cancels, signals, pauses and standard input; and their results.

use escher_protocol::json::{self, ExecutionObject};
use escher_protocol::message::MAX_STDIN_BYTES;
use escher_protocol::{
    CancelMode, ErrorCode, Request, Response as Answer, SignalAnswer, SignalSerial,
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::call::{Call, Reply, wrong_answer};
use super::problem::Problem;
use crate::execution::StdinWrite;
use crate::server::connection::{FRAME_TIMEOUT, over_memory_limit};
use crate::server::requests::ANSWER_BYTES;

/// How often the output of a result is in memory: as bytes, as text and as JSON.
const COPIES_OF_OUTPUT: u64 = 3;

pub(super) async fn cancel(mut call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["user"])?;
    let target = call.target(reference, &query)?;
    let mode = CancelMode::from(call.object::<json::Cancellation>()?);
    match call.ask(Request::Cancel { target, mode }).await? {
        Answer::Cancel(answer) => Ok(call.answer(json::cancelled(reference, answer))),
        _ => Err(wrong_answer()),
    }
}

pub(super) async fn signal(mut call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["user"])?;
    let target = call.target(reference, &query)?;
    let object: json::SignalObject = call.object()?;
    let request = Request::Signal {
        target,
        signal: object.signal,
        recipients: object.recipients(),
        serial: SignalSerial::unique(),
    };
    match call.ask(request).await? {
        Answer::Signal(SignalAnswer::Sent) => {
            Ok(call.answer(json::signalled(reference, object.signal)))
        }
        Answer::Signal(SignalAnswer::Cancelled) => {
            let answer = escher_protocol::message::CancelAnswer::Ending;
            Ok(call.answer(json::cancelled(reference, answer)))
        }
        _ => Err(wrong_answer()),
    }
}

/// Pauses an execution, or resumes it.
pub(super) async fn pause(mut call: Call, reference: &str, is_paused: bool) -> Reply {
    let query = call.parameters(&["user"])?;
    let target = call.target(reference, &query)?;
    let request = if is_paused {
        Request::Pause(target)
    } else {
        Request::Resume(target)
    };
    call.ask(request).await?;
    Ok(call.answer(json::paused(reference, is_paused)))
}

/// Returns the record with the output, once the execution is finished.
pub(super) async fn result(mut call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["user"])?;
    let target = call.target(reference, &query)?;
    let record = call.engine.wait_for_completion(target).await?;
    let log_bytes = record.outcome.map_or(0, |outcome| outcome.output.log_bytes);
    let most = call.engine.settings().output.max_bytes.saturating_mul(2);
    let output = log_bytes.min(most).saturating_mul(COPIES_OF_OUTPUT);
    let bytes = ANSWER_BYTES.saturating_add(usize::try_from(output).unwrap_or(usize::MAX));
    let deadline = Instant::now() + FRAME_TIMEOUT;
    let room = timeout_at(deadline, call.memory.charge(bytes)).await;
    call.charge = room.map_err(|_| {
        over_memory_limit().with_hint("read the output from the resource output, piece by piece")
    })?;
    let result = call.engine.get_result(record.id).await?;
    let object = json::line(&ExecutionObject::from_result(result));
    Ok(call.answer(object))
}

/// Writes to the standard input of an execution, as its only writer meanwhile.
pub(super) async fn write_stdin(mut call: Call, reference: &str) -> Reply {
    #[derive(Serialize)]
    struct Accepted {
        offset: u64,
    }
    let query = call.parameters(&["user", "offset", "end"])?;
    let target = call.target(reference, &query)?;
    let (offset, end) = (query.number::<u64>("offset")?, query.flag("end")?);
    let hold = call.engine.hold_stdin(target.clone()).await?;
    let mut accepted = offset.unwrap_or(hold.offset());
    let body = std::mem::take(&mut call.body);
    let mut pieces = body.chunks(MAX_STDIN_BYTES).peekable();
    let mut piece = pieces.next().unwrap_or_default();
    loop {
        let is_last = pieces.peek().is_none();
        let write = StdinWrite {
            offset: accepted,
            data: piece.into(),
            end: end && is_last,
        };
        let written = call.engine.write_stdin(target.clone(), write).await;
        accepted = written.map_err(|error| {
            let expected = error.code == ErrorCode::STDIN_OFFSET;
            let problem = Box::<Problem>::from(error);
            if expected {
                problem.with_field("offset").with_offset(hold.offset())
            } else {
                problem
            }
        })?;
        match pieces.next() {
            Some(next) => piece = next,
            None => break,
        }
    }
    Ok(call.answer(json::line(&Accepted { offset: accepted })))
}
