//! What the played daemon expects and answers.

use escher_client::protocol::{
    ClientFrame, Exit, Leftovers, Outcome, OutputTotals, Request, RequestId, Response,
    SignalAnswer, SignalRecipients, SignalSerial, Usage,
};
use escher_client::{
    ApiError, CancelAnswer, CancelMode, ErrorCode, ExecutionRecord, OutputStart, Status, Submitted,
};

use nix::sys::signal::Signal;

use super::{ServerConnection, record};

/// The answer to a submission: execution 1.
pub(crate) fn submitted() -> Response {
    Response::Submitted(Submitted {
        id: record(1).id,
        number: 1,
        existing: false,
    })
}

/// Accepts a submission.
pub(crate) async fn accept_submission(peer: &mut ServerConnection) {
    let (id, request) = peer.request().await;
    assert!(matches!(request, Request::Submit(_)), "{request:?}");
    peer.reply(id, Ok(submitted())).await;
}

/// The requests with which escherctl follows an execution to its end.
pub(crate) struct Attached {
    pub(crate) output: RequestId,
    /// The position from which the output was requested.
    pub(crate) start: OutputStart,
    pub(crate) end: RequestId,
}

/// Receives the requests for the output and the end of an execution, in either order.
pub(crate) async fn attached(peer: &mut ServerConnection) -> Attached {
    receive_attached(peer, false).await
}

/// As [`attached`], with a signal to the process group at any place.
pub(crate) async fn attached_and_interrupted(peer: &mut ServerConnection) -> Attached {
    receive_attached(peer, true).await
}

async fn receive_attached(peer: &mut ServerConnection, expects_signal: bool) -> Attached {
    let (mut output, mut end, mut awaits_signal) = (None, None, expects_signal);
    loop {
        match peer.next_request().await {
            (id, Request::ReadOutput(request)) => output = Some((id, request.start)),
            (id, Request::Wait(_)) => end = Some(id),
            (id, Request::Signal { signal, .. }) if awaits_signal => {
                assert_eq!(signal, 2);
                peer.reply(id, Ok(Response::Signal(SignalAnswer::Sent)))
                    .await;
                awaits_signal = false;
            }
            other => panic!("{other:?}"),
        }
        if let (Some((output, start)), Some(end), false) = (output, end, awaits_signal) {
            return Attached { output, start, end };
        }
    }
}

/// Accepts a submission and receives the requests that follow it.
pub(crate) async fn accept_run(peer: &mut ServerConnection) -> Attached {
    accept_submission(peer).await;
    attached(peer).await
}

/// Receives a cancel and accepts it.
pub(crate) async fn expect_cancel(peer: &mut ServerConnection, expected: CancelMode) {
    loop {
        match peer.frame().await.unwrap() {
            ClientFrame::Request {
                id,
                body: Request::Cancel { mode, .. },
            } => {
                assert_eq!(mode, expected);
                let outcome = Response::Cancel(CancelAnswer::Ending);
                return peer.reply(id, Ok(outcome)).await;
            }
            ClientFrame::Grant { .. } | ClientFrame::Abandon { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Receives a signal for the command, and answers it.
pub(crate) async fn expect_signal(
    peer: &mut ServerConnection,
    expected: Signal,
    to: SignalRecipients,
    answer: SignalAnswer,
) -> SignalSerial {
    let (request, serial) = receive_signal(peer, expected, to).await;
    peer.reply(request, Ok(Response::Signal(answer))).await;
    serial
}

/// Receives a signal for the command.
pub(crate) async fn receive_signal(
    peer: &mut ServerConnection,
    expected: Signal,
    to: SignalRecipients,
) -> (RequestId, SignalSerial) {
    loop {
        match peer.frame().await.unwrap() {
            ClientFrame::Request {
                id,
                body:
                    Request::Signal {
                        signal,
                        recipients,
                        serial,
                        ..
                    },
            } => {
                assert_eq!((signal, recipients), (expected as i32, to));
                return (id, serial);
            }
            ClientFrame::Grant { .. } | ClientFrame::Abandon { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Receives the signal of the first Ctrl-C, and answers that it was sent.
pub(crate) async fn expect_interrupt(peer: &mut ServerConnection) {
    let group = SignalRecipients::ProcessGroup;
    expect_signal(peer, Signal::SIGINT, group, SignalAnswer::Sent).await;
}

/// Execution 1 with this outcome.
pub(crate) fn finished(
    status: Status,
    exit: Exit,
    error: Option<ErrorCode>,
    ended_by_signal: Option<i32>,
    dropped_bytes: u64,
) -> Response {
    Response::Execution(Box::new(ExecutionRecord {
        status,
        outcome: Some(Outcome {
            exit,
            error: error.map(|code| ApiError::new(code, "reason")),
            ended_by_signal,
            duration_us: 1,
            usage: Usage::default(),
            output: OutputTotals {
                dropped_bytes,
                ..OutputTotals::default()
            },
            leftovers: Leftovers::None,
        }),
        ..record(1)
    }))
}

/// Execution 1, completed.
pub(crate) fn completed() -> Response {
    finished(Status::Completed, Exit::Code(0), None, None, 0)
}

/// Execution 1, failed with this exit status.
pub(crate) fn exited(code: i32) -> Response {
    let error = Some(ErrorCode::EXIT_STATUS);
    finished(Status::Failed, Exit::Code(code), error, None, 0)
}

/// Execution 1, failed because it died of this signal.
pub(crate) fn died(signal: Signal) -> Response {
    let exit = Exit::Signal {
        signal: signal as i32,
        core_dumped: false,
    };
    finished(Status::Failed, exit, Some(ErrorCode::SIGNALLED), None, 0)
}

/// Execution 1, cancelled and dead of this signal.
pub(crate) fn killed(signal: i32) -> Response {
    let exit = Exit::Signal {
        signal,
        core_dumped: false,
    };
    let error = Some(ErrorCode::CANCELLED);
    finished(Status::Cancelled, exit, error, Some(signal), 0)
}
