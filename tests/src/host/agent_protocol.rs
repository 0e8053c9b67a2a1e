//! What a test and the `host-agent` in its machine send each other, over a serial port between the two.
//!
//! Each message is its length in bytes (u32, big-endian) and its payload.

use std::io::{self, ErrorKind, Read, Write};

use escher_protocol::{Blob, OutputStream, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The port's name inside the machine: `/dev/virtio-ports/<name>`.
pub const PORT: &str = "agent";

/// A shell script to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunScript {
    /// The number by which reports refer to it.
    pub task: u32,
    /// The user who runs it.
    pub user: String,
    /// For /bin/sh.
    pub script: String,
}

/// What has happened in the machine.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The machine is up, and the agent accepts scripts.
    Ready,
    /// A script has written something.
    Output {
        /// Its number.
        task: u32,
        /// Where to.
        stream: OutputStream,
        /// What.
        data: Blob,
    },
    /// A script has ended, and everything that it has written was reported.
    Ended {
        /// Its number.
        task: u32,
        /// Its exit status, or `-n` if signal n killed it.
        code: i32,
    },
}

/// Sends one message.
///
/// # Errors
/// Those of the port.
pub fn send(port: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let payload = codec::encode(message).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(payload);
    port.write_all(&frame)
}

/// Waits for the next message; `None` when the other side has closed the port.
///
/// # Errors
/// Those of the port, and bytes that are no message.
pub fn receive<T: DeserializeOwned>(port: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match port.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    port.read_exact(&mut payload)?;
    codec::decode(&payload).map(Some).map_err(io::Error::other)
}
