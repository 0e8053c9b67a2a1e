//! `attach`: an execution from its first byte to its exit status.

use crate::Context;
use crate::exit_status::of_signal;
use crate::failure::Failure;
use crate::foreground::{IfUnread, see};
use crate::signals::Interrupts;

pub(super) async fn attach(context: &Context, target: &str) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let attached = async {
        let client = context.connect().await?;
        // A name may come to mean a later execution while this one is watched.
        let id = client.get_status(target).await?.id;
        see(context, &client, id, IfUnread::Leave)
            .await
            .map_err(|failure| failure.leaving(id))
    };
    tokio::select! {
        status = attached => status,
        signal = interrupts.next() => {
            if !context.quiet {
                context.say(&format!("detached from {target}, which is left as it is"));
            }
            Ok(of_signal(signal))
        }
    }
}
