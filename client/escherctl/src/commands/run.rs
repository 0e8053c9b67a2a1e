//! `run`: a command as if it ran here.

use std::pin::pin;

use escher_client::{StdinMode, Submitted};

use crate::args::RunArgs;
use crate::args::request;
use crate::exit_status::of_signal;
use crate::failure::Failure;
use crate::foreground::{IfUnread, Overseen, oversee, see};
use crate::signals::Interrupts;
use crate::{Context, stdin};

pub(super) async fn run(context: &Context, args: RunArgs) -> Result<u8, Failure> {
    let stdin_mode = if args.interactive {
        StdinMode::Stream
    } else {
        StdinMode::Null
    };
    let request = request::make(args.request, stdin_mode)?;
    let key = request.key.clone().unwrap_or_default();
    let mut interrupts = Interrupts::listen()?;
    let client = tokio::select! {
        client = context.connect() => client?,
        signal = interrupts.next() => return Ok(of_signal(signal)),
    };

    let mut execute = pin!(client.execute(request));
    let mut heard = 0;
    let Submitted { id, .. } = loop {
        tokio::select! {
            submitted = &mut execute => {
                break submitted.map_err(|error| Failure::from(error).in_doubt(&key))?;
            }
            // The command may have been accepted: what was asked for is done once its id is known,
            // unless somebody insists.
            signal = interrupts.next() => {
                heard += 1;
                if heard > 1 {
                    return Ok(of_signal(signal));
                }
            }
        }
    };
    if args.interactive {
        stdin::forward(client.stdin(id))?;
    }
    let seen = see(context, &client, id, IfUnread::Cancel);
    match oversee(context, &client, id, &mut interrupts, heard, seen).await {
        Ok(Overseen::Done(status) | Overseen::Left(status)) => Ok(status),
        Err(failure) => Err(failure.leaving(id)),
    }
}
