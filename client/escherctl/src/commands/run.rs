//! `run`: runs a command as if it were a child of the caller's shell.

use std::pin::pin;
use std::time::Duration;

use escher_client::{ExecutionRecord, OnStdinLost, Submitted};

use crate::args::request::{Input, RunArgs};
use crate::attached::{OnClosedOutput, show_to_end};
use crate::context::{Context, print_notice};
use crate::exit_status::{self, INCOMPLETE_OUTPUT, ProcessEnd};
use crate::failure::Failure;
use crate::feeding::{OnReadError, feed_submitted};
use crate::interruption::SIGNALS;
use crate::signal_relay::{Followed, SignalRelay};
use crate::signals::CaughtSignals;
use crate::stdio::output::Completeness;
use crate::stdio::unread_input::has_piped_data;
use crate::time;

pub(super) async fn run(context: &Context, args: RunArgs) -> Result<ProcessEnd, Failure> {
    let on_stdin_lost = OnStdinLost::from(args.stdin_lost);
    let reconnect_timeout = context.reconnect_timeout();
    let input = Input::fed(args.interactive, on_stdin_lost, reconnect_timeout);
    let request = args.request.into_request(input)?;
    let key = request.key.clone().unwrap_or_default();
    let mut signals = CaughtSignals::catch(&SIGNALS)?;
    let client = tokio::select! {
        client = context.connect() => client?,
        signal = signals.next() => return Ok(ProcessEnd::Signal(signal)),
    };

    let mut relay = SignalRelay::new(context);
    let submission = pin!(client.execute(request));
    let submitted = match relay.during_submission(&mut signals, submission).await {
        Followed::ToItsEnd(Ok(submitted)) => submitted,
        Followed::ToItsEnd(Err(error)) => return Err(Failure::from(error).while_submitting(&key)),
        Followed::Left(signal) => {
            tell(
                context,
                "escherd has not answered; it may have accepted the command",
            );
            return Ok(ProcessEnd::Signal(signal));
        }
    };
    let Submitted { id, number, .. } = submitted;
    let going_on = going_on(number, args.interactive, reconnect_timeout);
    if args.interactive {
        let on_read_error = OnReadError::Lose(on_stdin_lost);
        let feeding = feed_submitted(client.clone(), id, on_read_error, context.shows_notices());
        tokio::spawn(feeding);
    }
    let end = show_to_end(context, &client, id, OnClosedOutput::Cancel);
    let end = with_unread_input_warning(context, args.interactive, end);
    match relay.until(&client, submitted, &mut signals, end).await {
        Ok(Followed::ToItsEnd((record, Completeness::Incomplete))) => {
            report_incomplete_output(context, &record);
            Ok(ProcessEnd::Status(INCOMPLETE_OUTPUT))
        }
        Ok(Followed::ToItsEnd((record, Completeness::Complete))) => Ok(exit_status::end_of_run(
            &record,
            relay.cancelled_for(),
            |signal| relay.has_received(signal),
        )),
        Ok(Followed::Left(signal)) => {
            tell(context, &going_on);
            Ok(ProcessEnd::Signal(signal))
        }
        Err(failure) => {
            if failure.is_of_output() {
                tell(context, &going_on);
            }
            Err(failure.while_attached_to(id))
        }
    }
}

/// Awaits `end`. If there is piped input meanwhile, which the command does not get, warns of that once: a person who
/// pipes something expects it to be read.
async fn with_unread_input_warning<T>(
    context: &Context,
    is_fed: bool,
    end: impl Future<Output = T>,
) -> T {
    let mut end = pin!(end);
    if context.is_interactive() && !is_fed {
        tokio::select! {
            biased;
            () = has_piped_data() => {
                print_notice("the piped input is not for the command: `run -i` passes it on");
            }
            ended = &mut end => return ended,
        }
    }
    end.await
}

/// Says that the command goes on, and until when if its input will be lost.
fn going_on(number: u64, is_fed: bool, reconnect_timeout: Duration) -> String {
    let goes_on = format!("the command goes on; its number is {number}");
    if is_fed {
        let timeout = time::duration(reconnect_timeout);
        format!("{goes_on}; feed it by `escherctl attach -i {number}` within {timeout}")
    } else {
        goes_on
    }
}

fn tell(context: &Context, message: &str) {
    if context.shows_notices() {
        print_notice(message);
    }
}

/// Says why the exit status is not that of the command. In a pipe nobody would notice otherwise that
/// output is missing.
fn report_incomplete_output(context: &Context, record: &ExecutionRecord) {
    tell(
        context,
        &format!(
            "the output is incomplete, so the exit status is {INCOMPLETE_OUTPUT}; that of the command would be {}",
            exit_status::for_record(record)
        ),
    );
}
