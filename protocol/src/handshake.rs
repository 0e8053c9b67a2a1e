//! The handshake: the first frame of each side. Its bytes are the same in every version, so that
//! any two programs can find out that they have no version in common.

use serde::{Deserialize, Serialize};

use crate::blob::Text;
use crate::error::ApiError;
use crate::id::InstanceId;

/// The first bytes of a [`Hello`], which distinguish escher's protocol from any other.
pub const MAGIC: [u8; 8] = *b"\x89escher\n";

/// Longest payload of a frame until the handshake is done, in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;

/// The oldest protocol version that this crate implements.
///
/// - 1: the first.
pub const LOWEST_VERSION: u16 = 1;
/// The newest protocol version that this crate implements.
pub const HIGHEST_VERSION: u16 = 1;

/// The client's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`]; anything else is refused.
    pub magic: [u8; 8],
    /// The oldest version that the client speaks.
    pub lowest: u16,
    /// The newest version that the client speaks.
    pub highest: u16,
    /// Name and version of the client, for escherd's log: `escherctl 0.1.0`. It confers no
    /// authority.
    pub client: Text,
}

impl Hello {
    /// Creates the greeting of a client that uses this crate.
    #[must_use]
    pub fn new(client: impl Into<Text>) -> Self {
        Hello {
            magic: MAGIC,
            lowest: LOWEST_VERSION,
            highest: HIGHEST_VERSION,
            client: client.into(),
        }
    }

    /// Returns the newest version that both sides speak; `None` if there is none or the magic is
    /// another.
    #[must_use]
    pub fn common_version(&self) -> Option<u16> {
        let highest = self.highest.min(HIGHEST_VERSION);
        let lowest = self.lowest.max(LOWEST_VERSION);
        (self.magic == MAGIC && lowest <= highest).then_some(highest)
    }
}

/// The daemon's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// The connection is ready for requests.
    Welcome(Welcome),
    /// The daemon refuses the connection and closes it.
    Refused(Refusal),
}

/// The terms of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of all frames that follow.
    pub version: u16,
    /// Name and version of the daemon: `escherd 0.1.0`.
    pub daemon: Text,
    /// The running instance of escherd.
    pub instance: InstanceId,
    /// Limits that the client must observe.
    pub limits: SessionLimits,
}

/// Limits of a connection after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Longest payload of a frame in either direction, in bytes.
    pub max_frame_bytes: u32,
    /// Most requests (streams included) in flight at once.
    pub max_requests_in_flight: u32,
    /// Initial and largest window of a stream, in payload bytes
    /// (see [`ClientFrame::Grant`](crate::message::ClientFrame::Grant)).
    pub stream_window_bytes: u32,
}

/// The reason why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub error: ApiError,
    /// The oldest version that the daemon speaks.
    pub lowest: u16,
    /// The newest version that the daemon speaks.
    pub highest: u16,
}
