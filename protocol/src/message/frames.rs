//! The frames, which carry requests and their answers.

use serde::{Deserialize, Serialize};

use super::{Item, Request, Response};
use crate::codec::{self, MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES};
use crate::error::ApiError;
use crate::id::RequestId;

/// A frame from a client to escherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Makes a request.
    Request {
        /// Identifies the answer: every frame of it has the same id.
        id: RequestId,
        /// The request.
        body: Request,
    },
    /// Adds to the window of the stream that answers `id`.
    ///
    /// The window starts with `stream_window_bytes` and never exceeds that; each
    /// [`ServerFrame::Item`] uses up the length of its payload, and the daemon sends the next item
    /// while anything is left. So a client that reads one stream slowly can still use the
    /// connection for everything else.
    Grant {
        /// The request that the stream answers.
        id: RequestId,
        /// Payload bytes to add to the window.
        bytes: u32,
    },
    /// Abandons a request: no frames of its answer follow, except those already on their way. The
    /// effects of the request stay.
    Abandon {
        /// The request.
        id: RequestId,
    },
}

impl ClientFrame {
    /// Returns the longest payload that this frame may have.
    #[must_use]
    pub fn max_payload_bytes(&self) -> usize {
        match self {
            ClientFrame::Request {
                body: Request::Submit(_),
                ..
            } => MAX_PAYLOAD_BYTES,
            _ => MAX_REQUEST_BYTES,
        }
    }

    /// Returns the longest payload that a frame may have whose payload begins with `beginning`;
    /// `None` if more bytes are needed to tell.
    #[must_use]
    pub fn max_payload_bytes_by(beginning: &[u8]) -> Option<usize> {
        let variant_id_and_request: Option<(u32, u64, u32)> = codec::decode_beginning(beginning);
        match variant_id_and_request {
            // The first variants of both: a request to submit.
            Some((0, _, 0)) => Some(MAX_PAYLOAD_BYTES),
            None if beginning.len() < MAX_REQUEST_HEAD_BYTES => None,
            _ => Some(MAX_REQUEST_BYTES),
        }
    }
}

/// Longest encoding of what comes before the fields of a request: the variant of the frame, the id
/// and the variant of the request, each in its longest form.
const MAX_REQUEST_HEAD_BYTES: usize = 5 + 9 + 5;

/// A frame from escherd to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The answer to a request with one value.
    Reply {
        /// The request.
        id: RequestId,
        /// The value, or why there is none.
        result: Result<Response, ApiError>,
    },
    /// One element of the stream that answers a request.
    Item {
        /// The request.
        id: RequestId,
        /// The element.
        item: Item,
    },
    /// The end of a stream.
    End {
        /// The request.
        id: RequestId,
        /// Whether the stream was complete, or why not.
        result: Result<(), ApiError>,
    },
}

/// The id of the last frame before escherd closes a connection that has violated the protocol, or is idle: a
/// [`ServerFrame::End`] with the reason. No request has this id.
pub const CLOSING_FRAME_ID: RequestId = RequestId(u64::MAX);
