//! What `top` learns from escherd and from the keyboard: tasks that pass it on as [`Update`]s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use escher_client::{
    CancelMode, Client, Condition, CurrentUsage, Error, ErrorCode, EventsRequest, ExecutionId,
    ListFilter, OutputRange, OutputStart, Property, Status, StreamSelection, Timestamp,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::keys;
use super::log_tail::MAX_LINES;
use super::model::{Action, Listing, Measurement, Update};
use crate::failure::Failure;
use crate::render::text;
use crate::stdio::input::start_reading;

/// Most running, and most pending executions that are shown: the newest.
pub(super) const MAX_SHOWN: u32 = 1000;

/// The pause after a list that was asked for because of an event: so many events ask for one list.
const LIST_PAUSE: Duration = Duration::from_millis(250);

/// The pause before events are asked for again, of which some were missed.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Updates that may wait to be applied. Further ones make their sources wait.
const MAX_WAITING: usize = 16;

/// All events, also those of before: so nothing that happens beside the first list is missed.
fn all_events() -> EventsRequest {
    EventsRequest {
        follow: true,
        ..EventsRequest::default()
    }
}

/// The sender of a source. Its error: nobody wants updates any more.
type Updates = mpsc::Sender<Result<Update, Failure>>;

/// What feeds the model. Dropping it does not end the tasks, which end with the runtime.
pub(super) struct Sources {
    client: Client,
    updates: Updates,
    /// Something has happened to an execution.
    changed: Arc<Notify>,
    follower: Option<AbortHandle>,
}

impl Sources {
    /// Starts to read the keyboard, follow events, and ask every `interval` what is used.
    pub(super) fn start(
        client: Client,
        interval: Duration,
        outage: watch::Receiver<Option<Instant>>,
    ) -> std::io::Result<(Self, mpsc::Receiver<Result<Update, Failure>>)> {
        let (updates, waiting) = mpsc::channel(MAX_WAITING);
        let changed = Arc::new(Notify::new());
        let pieces = start_reading()?;
        tokio::spawn(read_keys(pieces, updates.clone()));
        tokio::spawn(watch_outage(outage, updates.clone()));
        tokio::spawn(follow_events(
            client.clone(),
            changed.clone(),
            updates.clone(),
        ));
        tokio::spawn(refresh(
            client.clone(),
            interval,
            changed.clone(),
            updates.clone(),
        ));
        let sources = Sources {
            client,
            updates,
            changed,
            follower: None,
        };
        Ok((sources, waiting))
    }

    /// Follows the output of an execution in place of another.
    pub(super) fn follow(&mut self, id: Option<ExecutionId>) {
        if let Some(earlier) = self.follower.take() {
            earlier.abort();
        }
        self.follower = id.map(|id| {
            let follower = follow_output(self.client.clone(), id, self.updates.clone());
            tokio::spawn(follower).abort_handle()
        });
    }

    /// Finds out what became of an execution.
    pub(super) fn look_up(&self, id: ExecutionId) {
        let (client, updates) = (self.client.clone(), self.updates.clone());
        tokio::spawn(async move {
            let update = match client.get_status(id).await {
                Ok(record) => Ok(Update::LookedUp(id, Some(Box::new(record)))),
                Err(Error::Api(error)) if error.code == ErrorCode::NOT_FOUND => {
                    Ok(Update::LookedUp(id, None))
                }
                Err(error) => told(error),
            };
            let _ = updates.send(update).await;
        });
    }

    /// Does something to an execution, which people know by its number.
    pub(super) fn act(&self, action: Action, id: ExecutionId, number: u64) {
        let (client, updates) = (self.client.clone(), self.updates.clone());
        let changed = self.changed.clone();
        tokio::spawn(async move {
            let number = number.to_string();
            let answer = match action {
                Action::Cancel => client
                    .cancel(id, CancelMode::Graceful)
                    .await
                    .map(|answer| text::cancelled(&number, answer)),
                Action::Pause => client.pause(id).await.map(|()| text::paused(&number, true)),
                Action::Resume => client
                    .resume(id)
                    .await
                    .map(|()| text::paused(&number, false)),
            };
            let update = match answer {
                Ok(message) => Ok(Update::Message(message.trim_end().to_owned())),
                Err(error) => told(error),
            };
            let _ = updates.send(update).await;
            // No event says that an execution is paused.
            changed.notify_one();
        });
    }
}

/// Returns what an error leads to: what escherd answers is told, and anything else ends `top`.
fn told(error: Error) -> Result<Update, Failure> {
    match error {
        Error::Api(error) => Ok(Update::Message(error.message.to_string())),
        error => Err(error.into()),
    }
}

async fn read_keys(mut pieces: mpsc::Receiver<std::io::Result<Vec<u8>>>, updates: Updates) {
    while let Some(Ok(piece)) = pieces.recv().await {
        for key in keys::decode(&piece) {
            if updates.send(Ok(Update::Key(key))).await.is_err() {
                return;
            }
        }
    }
    let _ = updates.send(Err(Failure::TerminalGone)).await;
}

async fn watch_outage(mut outage: watch::Receiver<Option<Instant>>, updates: Updates) {
    while outage.changed().await.is_ok() {
        let is_unavailable = outage.borrow_and_update().is_some();
        if updates
            .send(Ok(Update::Outage(is_unavailable)))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Notes each event: the list says what it has led to.
async fn follow_events(client: Client, changed: Arc<Notify>, updates: Updates) {
    loop {
        let error = match client.events(all_events()).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Some(Ok(_)) => changed.notify_one(),
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            },
            Err(error) => Some(error),
        };
        if let Some(Err(failure)) = error.map(told) {
            let _ = updates.send(Err(failure)).await;
            return;
        }
        // Some were missed, of which the list says more.
        changed.notify_one();
        sleep(RESUBSCRIBE_PAUSE).await;
    }
}

/// Asks what runs, waits and is used every `interval`, and for the list alone when something has happened.
async fn refresh(client: Client, interval: Duration, changed: Arc<Notify>, updates: Updates) {
    loop {
        let listed = list(&client).await.map(Update::Listed);
        if updates.send(listed.or_else(told)).await.is_err() {
            return;
        }
        let measured = measure(&client).await.map(Update::Measured);
        if updates.send(measured.or_else(told)).await.is_err() {
            return;
        }
        let next = Instant::now() + interval;
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                () = changed.notified() => {}
            }
            let listed = list(&client).await.map(Update::Listed);
            if updates.send(listed.or_else(told)).await.is_err() {
                return;
            }
            sleep_until(next.min(Instant::now() + LIST_PAUSE)).await;
        }
    }
}

/// Lists what waits and then what runs, so that an execution that starts meanwhile is not missed.
pub(super) async fn list(client: &Client) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let mut pending = HashSet::new();
    for status in [Status::Pending, Status::Running] {
        let filter = ListFilter {
            conditions: vec![Condition::is(Property::Status(status))],
            // One more than is shown, to know whether there are more.
            limit: MAX_SHOWN + 1,
            ..ListFilter::default()
        };
        let mut executions = client.list_executions(filter).await?;
        let mut shown = 0;
        while let Some(record) = executions.next().await {
            let record = record?;
            if shown == MAX_SHOWN {
                listing.is_truncated = true;
                break;
            }
            shown += 1;
            if status == Status::Pending {
                pending.insert(record.id);
            } else if pending.contains(&record.id) {
                listing.records.retain(|earlier| earlier.id != record.id);
            }
            listing.records.push(record);
        }
    }
    Ok(listing)
}

/// Asks what the running executions use.
pub(super) async fn measure(client: &Client) -> Result<Measurement, Error> {
    let mut stream = client.measure_running().await?;
    let mut usages: HashMap<ExecutionId, CurrentUsage> = HashMap::new();
    while let Some(usage) = stream.next().await {
        let usage = usage?;
        usages.insert(usage.id, usage.usage);
        // More than that are not shown.
        if usages.len() > MAX_SHOWN as usize {
            break;
        }
    }
    Ok(Measurement {
        usages,
        at: Timestamp::now(),
    })
}

async fn follow_output(client: Client, id: ExecutionId, updates: Updates) {
    let range = OutputRange {
        streams: StreamSelection::Both,
        start: OutputStart::LastLines(MAX_LINES as u64),
        ..OutputRange::default()
    };
    let mut output = match client.follow(id, range).await {
        Ok(output) => output,
        Err(error) => {
            let _ = updates.send(told(error)).await;
            return;
        }
    };
    while let Some(item) = output.next().await {
        let update = item.map(|item| Update::Output(id, item)).or_else(told);
        if updates.send(update).await.is_err() {
            return;
        }
    }
}
