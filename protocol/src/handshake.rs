//! The first frame of each side. Its bytes are frozen: every version can at least say that it does not
//! understand another.

use serde::{Deserialize, Serialize};

use crate::blob::{Text, list};
use crate::error::ApiError;
use crate::id::InstanceId;

/// Tells escher's protocol from anything else that may connect.
pub const MAGIC: [u8; 8] = *b"\x89escher\n";

/// Longest payload of a frame before the handshake is done, in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;

/// The oldest protocol version spoken here.
///
/// - 1: the first.
pub const LOWEST_VERSION: u16 = 1;
/// The newest protocol version spoken here.
pub const HIGHEST_VERSION: u16 = 1;

/// The client's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The oldest version that the client speaks.
    pub lowest: u16,
    /// The newest version that the client speaks.
    pub highest: u16,
    /// Who this is, for escherd's log: `escherctl 0.1.0`. Never used for authority.
    pub client: Text,
}

impl Hello {
    /// The greeting of a client of this version of the crate.
    #[must_use]
    pub fn new(client: impl Into<Text>) -> Self {
        Hello {
            magic: MAGIC,
            lowest: LOWEST_VERSION,
            highest: HIGHEST_VERSION,
            client: client.into(),
        }
    }

    /// The newest version that both sides speak, if there is one.
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
    /// It is not; the daemon closes it.
    Refused(Refusal),
}

/// The terms of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version spoken from here on.
    pub version: u16,
    /// Who answers: `escherd 0.1.0`.
    pub daemon: Text,
    /// Which run of escherd this is.
    pub instance: InstanceId,
    /// Names of what this daemon can do beyond the version's base. None are defined yet.
    #[serde(deserialize_with = "list")]
    pub features: Vec<Text>,
    /// What the client has to keep to.
    pub limits: ConnectionLimits,
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLimits {
    /// Longest payload of a frame in either direction, in bytes.
    pub max_frame_bytes: u32,
    /// Most requests (streams included) in flight at once.
    pub max_requests_in_flight: u32,
    /// Most payload bytes of one stream's items that the client has not granted back
    /// (see [`ClientFrame::Grant`](crate::message::ClientFrame::Grant)).
    pub stream_window_bytes: u32,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub error: ApiError,
    /// The oldest version that the daemon speaks.
    pub lowest: u16,
    /// The newest version that the daemon speaks.
    pub highest: u16,
}
