//! The shutdown of an engine.

use std::future::pending;
use std::time::Duration;

use escher_protocol::{CancelMode, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ExecutionEngine;
use super::locked_dirs::DirectoryLocks;
use crate::config::OnStop;
use crate::execution::shown_command;
use crate::scheduler::{Scheduler, SchedulerHandle};

/// Timeout of each last step of a shutdown: the last commits, the end of the launcher, the last
/// answers to clients.
pub(crate) const SHUTDOWN_STEP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long commands that get SIGKILL, because the engine stops, may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What an engine holds until its shutdown.
#[derive(Debug)]
pub(super) struct ShutdownHandles {
    /// Released when dropped.
    pub(super) _locks: DirectoryLocks,
    /// The task that owns the connection to the launcher.
    pub(super) launch_task: JoinHandle<()>,
}

impl ExecutionEngine {
    /// Shuts the engine down, for all its clones. Running commands go on or are ended first, as
    /// `on_stop` says. Afterwards another engine can be created on the same directories.
    pub async fn shutdown(&self, on_stop: OnStop) {
        self.shut_down_scheduler(on_stop, pending()).await;
        self.shut_down_launcher().await;
    }

    /// Describes in one line which commands a shutdown with [`OnStop::Cancel`] waits for; `None` if it
    /// waits for none.
    pub(crate) async fn awaited_commands(&self) -> Option<String> {
        let scheduler = &self.core.scheduler;
        let longest = self.core.settings_at_start.stop_grace;
        let described = scheduler.call(move |scheduler| describe_running(scheduler, longest));
        described.await.ok()?
    }

    /// The first half of a shutdown. Afterwards every request has been answered, at least with an
    /// error. If commands are ended first, that is done at once when `hurry` completes.
    pub(crate) async fn shut_down_scheduler(
        &self,
        on_stop: OnStop,
        hurry: impl Future<Output = ()>,
    ) {
        let scheduler = &self.core.scheduler;
        if on_stop == OnStop::Cancel {
            info!("cancelling all executions");
            let grace = self.core.settings_at_start.stop_grace;
            end_all(scheduler, grace, hurry).await;
            self.core.left_processes.end_all().await;
        }
        let _ = scheduler.post(Scheduler::clear_launch_attempts).await;
        let committed = timeout(SHUTDOWN_STEP_TIMEOUT, scheduler.committed());
        let is_committed = committed.await.is_ok();
        scheduler.stop().await;
        if !is_committed || self.core.store.close(SHUTDOWN_STEP_TIMEOUT).await.is_err() {
            warn!("the store cannot be written; shims keep the results that it lacks");
        }
    }

    /// The second half of a shutdown: releases the launcher and the state directory.
    pub(crate) async fn shut_down_launcher(&self) {
        let handles = self.core.shutdown_handles.lock();
        let handles = handles
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(ShutdownHandles {
            launch_task,
            _locks,
        }) = handles
            && timeout(SHUTDOWN_STEP_TIMEOUT, launch_task).await.is_err()
        {
            warn!("the launcher did not end in time");
        }
    }
}

/// Most commands that are named at a shutdown.
const MAX_NAMED: usize = 10;

/// Describes in one line which commands are ended, and when at the latest, which is after `longest` in any case; `None` if
/// there are none.
fn describe_running(scheduler: &Scheduler, longest: Duration) -> Option<String> {
    let count = scheduler.running().count();
    let graces = scheduler.running().map(|execution| {
        let timeouts = execution.submission.timeouts;
        Duration::from_millis(timeouts.kill_grace_ms)
    });
    let seconds = graces.max()?.min(longest).as_secs_f64().ceil();
    let named = scheduler.running().take(MAX_NAMED).map(|execution| {
        let submission = &execution.submission;
        let command = shown_command(&submission.request.command);
        format!(
            "{} ({}) {command}",
            submission.number, submission.account.user
        )
    });
    let mut list = named.collect::<Vec<_>>().join(", ");
    if count > MAX_NAMED {
        list += &format!(" and {} more", count - MAX_NAMED);
    }
    let commands = if count == 1 { "command" } else { "commands" };
    Some(format!(
        "ending {count} {commands}; SIGKILL in {seconds} s at the latest: {list}"
    ))
}

/// Runs the kill ladder for all executions and waits until they have ended: for at most `grace`, or until
/// `hurry` completes, and then for what a SIGKILL takes.
async fn end_all(scheduler: &SchedulerHandle, grace: Duration, hurry: impl Future<Output = ()>) {
    let cancel = |mode| {
        scheduler.call(move |scheduler| {
            scheduler.begin_shutdown(mode, Timestamp::now());
            scheduler.watch_events()
        })
    };
    let Ok(events) = cancel(CancelMode::Graceful).await else {
        return;
    };
    tokio::select! {
        () = end_of_all(scheduler, events) => return,
        () = hurry => {}
        () = sleep(grace) => {}
    }
    info!("killing what has not ended");
    if let Ok(events) = cancel(CancelMode::Kill).await
        && timeout(KILL_TIMEOUT, end_of_all(scheduler, events))
            .await
            .is_err()
    {
        warn!("some commands have not ended");
    }
}

/// Waits until no execution is pending or running.
async fn end_of_all(scheduler: &SchedulerHandle, mut events: watch::Receiver<u64>) {
    loop {
        events.borrow_and_update();
        match scheduler.call(|scheduler| scheduler.counts()).await {
            Ok(counts) if counts.pending + counts.running > 0 => {}
            _ => return,
        }
        if events.changed().await.is_err() {
            return;
        }
    }
}
