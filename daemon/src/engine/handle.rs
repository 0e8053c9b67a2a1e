//! The task that owns the engine, and how others reach it.

use escher_protocol::{ApiError, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::{Effect, Engine};

/// Pieces of work that may wait for the engine. A sender waits when there are more.
const MAX_WAITING_WORK: usize = 1024;

type Work = Box<dyn FnOnce(&mut Engine) -> Next + Send>;

/// Whether the engine goes on after a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// A way to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    work: mpsc::Sender<Work>,
}

/// The engine is gone: escherd is stopping.
#[derive(Debug, thiserror::Error)]
#[error("escherd is stopping")]
pub struct Stopped;

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> Self {
        ApiError::new(ErrorCode::SHUTTING_DOWN, stopped.to_string())
    }
}

/// Starts the task that owns `engine`. Its effects come out of the returned channel, which has no bound: an
/// effect answers a request or a shim, of which there is a bounded number.
#[must_use]
pub fn start(mut engine: Engine) -> (EngineHandle, mpsc::UnboundedReceiver<Effect>) {
    let (work, mut waiting) = mpsc::channel::<Work>(MAX_WAITING_WORK);
    let (effects, outside) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(work) = waiting.recv().await {
            let next = work(&mut engine);
            for effect in engine.take_effects() {
                // Nobody outside: escherd is stopping.
                let _ = effects.send(effect);
            }
            if next == Next::Stop {
                return;
            }
        }
    });
    (EngineHandle { work }, outside)
}

impl EngineHandle {
    /// Has the engine do something and returns what comes of it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (reply, result) = oneshot::channel();
        self.tell(move |engine| drop(reply.send(work(engine))))
            .await?;
        result.await.map_err(|_| Stopped)
    }

    /// Has the engine do something.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn tell(
        &self,
        work: impl FnOnce(&mut Engine) + Send + 'static,
    ) -> Result<(), Stopped> {
        let work = Box::new(move |engine: &mut Engine| {
            work(engine);
            Next::GoOn
        });
        self.work.send(work).await.map_err(|_| Stopped)
    }

    /// Ends the engine. Whoever waits for something of it is told that it has [`Stopped`].
    pub async fn stop(&self) {
        let _ = self.work.send(Box::new(|_| Next::Stop)).await;
    }
}
