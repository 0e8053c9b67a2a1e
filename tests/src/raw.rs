//! A peer that need not keep to the protocol.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use bytes::BytesMut;
use escher_protocol::frame::FrameCodec;
use escher_protocol::handshake::{Hello, HelloReply};
use escher_protocol::{ClientFrame, Request, RequestId, ServerFrame};

use crate::{DEADLINE, Daemon};

/// A bare connection.
#[derive(Debug)]
pub struct RawPeer {
    stream: UnixStream,
    incoming: BytesMut,
}

impl RawPeer {
    /// Connects and says nothing.
    #[must_use]
    pub fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.home().socket()).expect("escherd listens");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        RawPeer {
            stream,
            incoming: BytesMut::new(),
        }
    }

    /// Connects and does the handshake.
    #[must_use]
    pub fn greet(daemon: &Daemon) -> Self {
        let mut peer = RawPeer::connect(daemon);
        peer.send(&Self::hello());
        let reply = peer.receive(&FrameCodec::<HelloReply>::handshake());
        assert!(matches!(reply, Some(HelloReply::Welcome(_))), "{reply:?}");
        peer
    }

    /// The frame of a greeting.
    #[must_use]
    pub fn hello() -> Vec<u8> {
        Self::hello_frame(&Hello::new("raw peer"))
    }

    /// The frame of any greeting.
    #[must_use]
    pub fn hello_frame(hello: &Hello) -> Vec<u8> {
        let mut frame = BytesMut::new();
        FrameCodec::<()>::handshake()
            .encode_frame(hello, &mut frame)
            .unwrap();
        frame.to_vec()
    }

    /// The frame of a request.
    #[must_use]
    pub fn request(id: u64, body: Request) -> Vec<u8> {
        let mut frame = BytesMut::new();
        let id = RequestId(id);
        FrameCodec::<()>::established()
            .encode_frame(&ClientFrame::Request { id, body }, &mut frame)
            .unwrap();
        frame.to_vec()
    }

    /// Sends bytes. escherd may have hung up: what it says then is read by the others.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will come.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The answer to the handshake; `None` if the connection ends before.
    pub fn receive_greeting(&mut self) -> Option<HelloReply> {
        self.receive(&FrameCodec::handshake())
    }

    /// The next frame; `None` if the connection ends before.
    pub fn receive_frame(&mut self) -> Option<ServerFrame> {
        self.receive(&FrameCodec::established())
    }

    fn receive<T: serde::de::DeserializeOwned>(&mut self, codec: &FrameCodec<T>) -> Option<T> {
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

    /// Reads until escherd hangs up; returns how many bytes came.
    pub fn wait_for_end(&mut self) -> usize {
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
        match self.stream.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("escherd neither answers nor hangs up: {error}"),
        }
    }
}
