//! A client that need not keep to the protocol.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use escher_protocol::frame::FrameCodec;
use escher_protocol::handshake::{Hello, HelloReply};
use escher_protocol::{ClientFrame, Request, RequestId, ServerFrame};
use serde::de::DeserializeOwned;

use crate::{DEADLINE, Daemon};

/// A bare connection.
#[derive(Debug)]
pub struct RawPeer {
    stream: UnixStream,
    incoming: BytesMut,
}

impl RawPeer {
    /// Connects and sends nothing.
    #[must_use]
    pub fn connect(daemon: &Daemon) -> Self {
        RawPeer::connect_to(&daemon.home().socket()).expect("escherd listens")
    }

    /// Connects to the socket at this path and sends nothing.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect_to(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(RawPeer {
            stream,
            incoming: BytesMut::new(),
        })
    }

    /// Connects and does the handshake.
    #[must_use]
    pub fn connect_and_greet(daemon: &Daemon) -> Self {
        let mut peer = RawPeer::connect(daemon);
        peer.send(&Self::hello_frame());
        let reply = peer.receive_hello_reply();
        assert!(matches!(reply, Some(HelloReply::Welcome(_))), "{reply:?}");
        peer
    }

    /// The frame of a greeting.
    #[must_use]
    pub fn hello_frame() -> Vec<u8> {
        Self::frame_of_hello(&Hello::new("raw peer"))
    }

    /// The frame of any greeting.
    #[must_use]
    pub fn frame_of_hello(hello: &Hello) -> Vec<u8> {
        let mut frame = BytesMut::new();
        FrameCodec::<()>::handshake()
            .encode_frame(hello, &mut frame)
            .unwrap();
        frame.to_vec()
    }

    /// The frame of a request.
    #[must_use]
    pub fn request_frame(id: u64, body: Request) -> Vec<u8> {
        let mut frame = BytesMut::new();
        let id = RequestId(id);
        FrameCodec::<()>::established()
            .encode_frame(&ClientFrame::Request { id, body }, &mut frame)
            .unwrap();
        frame.to_vec()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        // escherd may have hung up; its reasons can still be received.
        let _ = self.stream.write_all(bytes);
    }

    /// Ends its side of the connection.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Receives the answer to the handshake; `None` if the connection ends before.
    pub fn receive_hello_reply(&mut self) -> Option<HelloReply> {
        self.receive(&FrameCodec::handshake())
    }

    /// Receives the next frame; `None` if the connection ends before.
    pub fn receive_frame(&mut self) -> Option<ServerFrame> {
        self.receive(&FrameCodec::established())
    }

    fn receive<T: DeserializeOwned>(&mut self, codec: &FrameCodec<T>) -> Option<T> {
        loop {
            let frame = codec
                .decode_frame(&mut self.incoming)
                .expect("escherd sends frames");
            if let Some((message, _)) = frame {
                return Some(message);
            }
            let mut buffer = [0; 64 * 1024];
            match self.read(&mut buffer) {
                0 => return None,
                length => self.incoming.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// Reads until escherd hangs up. Returns how many bytes came.
    pub fn read_to_end(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let mut total = 0;
        loop {
            match self.read(&mut buffer) {
                0 => return total,
                length => total += length,
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            match self.stream.read(buffer) {
                Ok(length) => return length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return 0,
                Err(error) => panic!("escherd neither answers nor hangs up: {error}"),
            }
        }
    }
}
