//! The line that `systemctl status` shows.

use std::time::Duration;

use escher_protocol::ApiError;
use tokio::time::{Instant, sleep_until};

use super::{Word, is_listening, mention};
use crate::api::ExecutionEngine;

/// Pause between two lines, however much happens.
const PAUSE: Duration = Duration::from_secs(1);

/// Has systemd know how many executions there are, whenever that changes, until the engine stops.
pub async fn keep_status(engine: ExecutionEngine) {
    if is_listening() {
        // An error is the engine's end.
        let _ = tell_changes(&engine).await;
    }
}

async fn tell_changes(engine: &ExecutionEngine) -> Result<(), ApiError> {
    let mut changes = engine.changes().await?;
    let mut told = String::new();
    loop {
        changes.borrow_and_update();
        let line = line(engine).await?;
        if line != told {
            mention(Word::Status(line.clone())).await;
            told = line;
        }
        sleep_until(Instant::now() + PAUSE).await;
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn line(engine: &ExecutionEngine) -> Result<String, ApiError> {
    let counts = engine.counts().await?;
    Ok(format!(
        "serving: {} running, {} waiting, {} finished",
        counts.running,
        counts.pending,
        engine.finished_count()
    ))
}
