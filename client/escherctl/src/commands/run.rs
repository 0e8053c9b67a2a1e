//! `run`: runs a command as if it were a child of the caller's shell.

use std::pin::pin;

use escher_client::{ExecutionRecord, StdinMode, Submitted};

use crate::args::request::RunArgs;
use crate::attached::{OnClosedOutput, cancel_on_signals, show_to_end};
use crate::context::{Context, print_notice};
use crate::exit_status::{INCOMPLETE_OUTPUT, for_record, for_signal};
use crate::failure::Failure;
use crate::signals::TerminationSignals;
use crate::stdio::input;
use crate::stdio::output::Completeness;

pub(super) async fn run(context: &Context, args: RunArgs) -> Result<u8, Failure> {
    let stdin_mode = if args.interactive {
        StdinMode::Stream
    } else {
        StdinMode::Null
    };
    let request = args.request.into_request(stdin_mode)?;
    let key = request.key.clone().unwrap_or_default();
    let mut signals = TerminationSignals::catch()?;
    let client = tokio::select! {
        client = context.connect() => client?,
        signal = signals.next() => return Ok(for_signal(signal)),
    };

    let mut execute = pin!(client.execute(request));
    let mut received_signals = 0;
    let Submitted { id, .. } = loop {
        tokio::select! {
            submitted = &mut execute => {
                break submitted.map_err(|error| Failure::from(error).while_submitting(&key))?;
            }
            // escherd may have accepted the command: the first signal cancels it once its id is
            // known, the second exits.
            signal = signals.next() => {
                received_signals += 1;
                if received_signals > 1 {
                    return Ok(for_signal(signal));
                }
            }
        }
    };
    if args.interactive {
        input::forward(client.stdin(id))?;
    }
    let status = async {
        let shown = show_to_end(context, &client, id, OnClosedOutput::Cancel).await;
        let (record, completeness) = shown?;
        if completeness == Completeness::Incomplete {
            report_incomplete_output(context, &record);
            return Ok(INCOMPLETE_OUTPUT);
        }
        Ok(for_record(&record))
    };
    cancel_on_signals(&client, id, &mut signals, received_signals, status)
        .await
        .map_err(|failure| failure.while_attached_to(id))
}

/// Says why the exit status is not that of the command. In a pipe nobody would notice otherwise that
/// output is missing.
fn report_incomplete_output(context: &Context, record: &ExecutionRecord) {
    if !context.quiet && !context.json {
        print_notice(&format!(
            "the output is incomplete, so the exit status is {INCOMPLETE_OUTPUT}; that of the command would be {}",
            for_record(record)
        ));
    }
}
