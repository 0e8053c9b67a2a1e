//! `attach`: shows an execution from its first byte to its end.

use nix::sys::signal::Signal;

use crate::args::verbs::AttachArgs;
use crate::attached::{OnClosedOutput, show_to_end};
use crate::context::{Context, print_notice};
use crate::exit_status::{self, ProcessEnd};
use crate::failure::Failure;
use crate::feeding::{OnReadError, feed_command};
use crate::signals::CaughtSignals;

/// The signals that end `attach` alone.
const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

pub(super) async fn attach(context: &Context, args: AttachArgs) -> Result<ProcessEnd, Failure> {
    let target = args.target.target.as_str();
    let mut signals = CaughtSignals::catch(&SIGNALS)?;
    let attached = async {
        let client = context.connect().await?;
        // A name may refer to a later execution by the time of the next request.
        let id = client.get_status(target).await?.id;
        if args.interactive {
            let hold = client.hold_stdin(id).await?;
            let (client, shows_notices) = (client.clone(), context.shows_notices());
            tokio::spawn(feed_command(
                client,
                id,
                hold,
                OnReadError::GiveUp,
                shows_notices,
            ));
        }
        let shown = show_to_end(context, &client, id, OnClosedOutput::Detach).await;
        let (record, _) = shown.map_err(|failure| failure.while_attached_to(id))?;
        Ok(ProcessEnd::Status(exit_status::for_record(&record)))
    };
    tokio::select! {
        end = attached => end,
        signal = signals.next() => {
            if !context.quiet {
                print_notice(&format!("detached from {target}; the execution continues"));
            }
            Ok(ProcessEnd::Signal(signal))
        }
    }
}
