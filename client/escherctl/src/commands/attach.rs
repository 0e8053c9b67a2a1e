//! `attach`: shows an execution from its first byte to its end.

use crate::attached::{OnClosedOutput, show_to_end};
use crate::context::{Context, print_notice};
use crate::exit_status::{for_record, for_signal};
use crate::failure::Failure;
use crate::signals::TerminationSignals;

pub(super) async fn attach(context: &Context, target: &str) -> Result<u8, Failure> {
    let mut signals = TerminationSignals::catch()?;
    let attached = async {
        let client = context.connect().await?;
        // A name may refer to a later execution by the time of the next request.
        let id = client.get_status(target).await?.id;
        let shown = show_to_end(context, &client, id, OnClosedOutput::Detach).await;
        let (record, _) = shown.map_err(|failure| failure.while_attached_to(id))?;
        Ok(for_record(&record))
    };
    tokio::select! {
        status = attached => status,
        signal = signals.next() => {
            if !context.quiet {
                print_notice(&format!("detached from {target}; the execution continues"));
            }
            Ok(for_signal(signal))
        }
    }
}
