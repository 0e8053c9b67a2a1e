//! A request in flight, and the state that it shares with its connection.

use std::sync::Arc;

use escher_protocol::{ClientFrame, RequestId, Response};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;

use super::request_table::RequestTable;
use super::send_queue::SendQueue;
use crate::error::Error;

/// The state shared by a connection, its I/O tasks and its requests in flight.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) requests: RequestTable,
    pub(super) send_queue: SendQueue,
}

/// The reader and the writer of a connection. Dropping this stops them and closes the socket.
#[derive(Debug)]
pub(super) struct IoTasks(pub(super) [AbortHandle; 2]);

impl Drop for IoTasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A request in flight. Dropping it before its response is complete abandons the request.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    pub(super) id: RequestId,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    pub(super) shared: Arc<Shared>,
    /// Keeps the connection open.
    pub(super) _io_tasks: Arc<IoTasks>,
}

impl InFlightRequest {
    /// Lets escherd send `bytes` more of the stream that answers this request.
    pub(super) fn grant(&self, bytes: u32) {
        // The frame is too small to be refused, and over a closed connection nothing more is sent.
        let _ = self
            .shared
            .send_queue
            .push(&ClientFrame::Grant { id: self.id, bytes });
    }

    /// Returns why the connection ended.
    pub(super) fn close_reason(&self) -> Error {
        self.shared.requests.close_reason()
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        if self.shared.requests.remove(self.id) {
            self.shared
                .send_queue
                .push_abandon(self.id, self.permit.take());
        }
    }
}

/// The response to a request that is answered by one value.
#[derive(Debug)]
pub(crate) struct PendingResponse {
    receiver: oneshot::Receiver<Result<Response, Error>>,
    request: InFlightRequest,
}

impl PendingResponse {
    pub(super) fn new(
        receiver: oneshot::Receiver<Result<Response, Error>>,
        request: InFlightRequest,
    ) -> Self {
        PendingResponse { receiver, request }
    }

    /// Waits for the response. Cancel safe. Must not be called again once it has returned.
    pub(crate) async fn receive(&mut self) -> Result<Response, Error> {
        match (&mut self.receiver).await {
            Ok(response) => response,
            Err(_) => Err(self.request.close_reason()),
        }
    }
}
