//! `prune`: removes all finished executions that match.

use std::io::{IsTerminal, stderr, stdin};

use escher_client::Removed;

use crate::args::selection::PruneArgs;
use crate::context::{Context, print_notice, write_stderr};
use crate::exit_status::REFUSED;
use crate::failure::Failure;
use crate::render::{json, print, text};

pub(super) async fn prune(context: &Context, args: &PruneArgs) -> Result<u8, Failure> {
    let selection = args.selection();
    let client = context.connect().await?;
    if args.dry_run {
        let prunable = client.count_prunable(selection).await?;
        print(&if context.json {
            json::pruned(prunable)
        } else {
            text::prunable(prunable)
        })?;
        return Ok(0);
    }
    // The answer of somebody who is not there must not be waited for.
    if !args.yes && stdin().is_terminal() && stderr().is_terminal() {
        let prunable = client.count_prunable(selection.clone()).await?;
        if prunable.executions > 0 && !is_confirmed(prunable)? {
            print_notice("nothing was removed");
            return Ok(REFUSED);
        }
    }
    let removed = client.prune(selection).await?;
    print(&if context.json {
        json::pruned(removed)
    } else {
        text::pruned(removed)
    })?;
    Ok(0)
}

/// Asks at the terminal.
fn is_confirmed(prunable: Removed) -> Result<bool, Failure> {
    write_stderr(&text::prune_question(prunable));
    let mut answer = String::new();
    stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::system("cannot read the answer", error))?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
