//! What finished executions have left running ([`Leftovers::Left`]): their shims, which are found by the
//! names of their sockets.
//!
//! Nothing else in escherd knows of such a shim. It holds no slot and no connection, and outlives escherd as
//! its processes do.
//!
//! [`Leftovers::Left`]: escher_protocol::Leftovers::Left

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escher_launcher::ipc::shim_socket::{self, SocketName};
use escher_launcher::ipc::wire::{MAX_PACKET_BYTES, SignalOrder, ToShim};
use escher_protocol::{CancelMode, Canceller, ExecutionRecord, User, codec};
use tokio::time::{Instant, timeout, timeout_at};

use super::async_packet_socket::AsyncPacketSocket;
use crate::scheduler::SignalRequest;

/// How long a shim may take beyond the grace period of its command: longer than it waits for processes that
/// SIGKILL does not end.
const SHIM_DEADLINE: Duration = Duration::from_secs(15);

/// Longest time between SIGTERM and SIGKILL when the host or the service stops.
const MAX_GRACE_AT_STOP: Duration = Duration::from_secs(60);

/// The shims of what finished executions have left.
#[derive(Debug)]
pub struct LeftProcesses {
    /// Directory of the sockets.
    directory: PathBuf,
}

impl LeftProcesses {
    /// Creates it for the shims with sockets in this runtime directory.
    #[must_use]
    pub fn new(runtime_dir: &Path) -> Self {
        LeftProcesses {
            directory: runtime_dir.join(shim_socket::DIRECTORY),
        }
    }

    /// Sends a signal to all that an execution has left. Returns whether there is anything.
    ///
    /// # Errors
    /// Those of connecting to its shim and of sending.
    pub async fn signal(
        &self,
        record: &ExecutionRecord,
        request: SignalRequest,
        by: User,
    ) -> io::Result<bool> {
        let Some(shim) = self.connect(&name(record))? else {
            return Ok(false);
        };
        let order = SignalOrder {
            signal: request.signal,
            recipients: request.recipients,
            by,
            serial: request.serial,
        };
        send(&shim, &ToShim::Signal(order)).await?;
        Ok(true)
    }

    /// Ends all that an execution has left, by the kill ladder, and waits for that.
    ///
    /// # Errors
    /// Those of connecting to its shim and of sending. [`io::ErrorKind::TimedOut`]: some of it does not end.
    pub async fn end(&self, record: &ExecutionRecord, by: Canceller) -> io::Result<()> {
        let Some(shim) = self.connect(&name(record))? else {
            return Ok(());
        };
        let mode = CancelMode::Graceful;
        send(&shim, &ToShim::Cancel { by, mode }).await?;
        let grace = Duration::from_millis(record.kill_grace_ms);
        Ok(timeout(grace.saturating_add(SHIM_DEADLINE), end_of(&shim)).await?)
    }

    /// Ends all that any execution has left, because the host or the service stops, as far as it can be
    /// reached. SIGKILL follows SIGTERM after at most [`MAX_GRACE_AT_STOP`].
    pub async fn end_all(&self) {
        let sockets = File::open(&self.directory).and_then(shim_socket::list);
        let mut shims = Vec::new();
        for name in sockets.unwrap_or_default() {
            if matches!(name, SocketName::Left { .. })
                && let Ok(Some(shim)) = self.connect(&name)
            {
                shims.push(shim);
            }
        }
        for (mode, deadline) in [
            (CancelMode::Graceful, MAX_GRACE_AT_STOP),
            (CancelMode::Kill, SHIM_DEADLINE),
        ] {
            let by = Canceller::Host;
            let deadline = Instant::now() + deadline;
            for shim in &shims {
                // A shim that has ended takes no message.
                let _ = send(
                    shim,
                    &ToShim::Cancel {
                        by: by.clone(),
                        mode,
                    },
                )
                .await;
            }
            let mut living = Vec::new();
            for shim in shims {
                if timeout_at(deadline, end_of(&shim)).await.is_err() {
                    living.push(shim);
                }
            }
            shims = living;
        }
    }

    /// Connects to a shim; `None` if it has ended.
    fn connect(&self, name: &SocketName) -> io::Result<Option<AsyncPacketSocket>> {
        let directory = File::open(&self.directory)?;
        match shim_socket::connect(&directory, name) {
            Ok(socket) => Ok(Some(AsyncPacketSocket::new(socket)?)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Returns the name of the socket of the shim with what an execution has left.
fn name(record: &ExecutionRecord) -> SocketName {
    SocketName::Left {
        id: record.id,
        uid: record.submitted_by.uid,
    }
}

/// Waits until a shim closes the connection, which it does when all that was left has ended.
async fn end_of(shim: &AsyncPacketSocket) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    while let Ok(Some(_)) = shim.receive(&mut buffer).await {}
}

async fn send(shim: &AsyncPacketSocket, message: &ToShim) -> io::Result<()> {
    let packet = codec::encode(message).map_err(io::Error::other)?;
    shim.send(&packet).await
}
