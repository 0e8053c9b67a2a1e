//! The other end of a connection, played by the test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use escher_client::protocol::frame::FrameCodec;
use escher_client::protocol::handshake::{ConnectionLimits, Hello, HelloReply};
use escher_client::protocol::{
    ClientFrame, InstanceId, Item, Request, RequestId, Response, ServerFrame, User,
};
use escher_client::{
    ApiError, Client, Command, ConnectError, ExecutionId, ExecutionRecord, OutputChunk,
    OutputStream, Status, StdinMode, Timestamp, Welcome,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The window of every stream, unless a test sets another.
pub(crate) const WINDOW: u32 = 4_000;

pub(crate) struct Daemon {
    directory: TempDir,
    listener: UnixListener,
    pub(crate) limits: ConnectionLimits,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("escherd.sock")).unwrap();
        Daemon {
            directory,
            listener,
            limits: ConnectionLimits {
                max_frame_bytes: 100_000,
                max_requests_in_flight: 16,
                stream_window_bytes: WINDOW,
            },
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("escherd.sock")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Takes a connection and reads its greeting.
    pub(crate) async fn greeted(&self) -> (Peer, Hello) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut peer = Peer {
            stream,
            buffer: BytesMut::new(),
        };
        let hello = peer.read(&FrameCodec::<Hello>::handshake()).await.unwrap();
        (peer, hello)
    }

    pub(crate) fn welcome(&self) -> Welcome {
        Welcome {
            version: 1,
            daemon: "escherd test".into(),
            instance: InstanceId::from_bytes([1; 16]),
            features: Vec::new(),
            limits: self.limits,
        }
    }

    /// Both ends of a connection.
    pub(crate) async fn connect(&self) -> (Client, Peer) {
        let (client, peer) = tokio::join!(Client::connect(self.path()), async {
            let (mut peer, _) = self.greeted().await;
            peer.send(&HelloReply::Welcome(self.welcome())).await;
            peer
        });
        (client.unwrap(), peer)
    }

    /// What a client makes of this answer to its greeting.
    pub(crate) async fn answer_greeting(&self, reply: &HelloReply) -> Result<Client, ConnectError> {
        let (connected, ()) = tokio::join!(Client::connect(self.path()), async {
            let (mut peer, _) = self.greeted().await;
            peer.send(reply).await;
        });
        connected
    }
}

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    buffer: BytesMut,
}

impl Peer {
    /// The next message; `None` when the client has hung up.
    async fn read<T: serde::de::DeserializeOwned>(&mut self, codec: &FrameCodec<T>) -> Option<T> {
        loop {
            if let Some((message, _)) = codec.decode_frame(&mut self.buffer).unwrap() {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap() == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Option<ClientFrame> {
        self.read(&FrameCodec::established()).await
    }

    pub(crate) async fn request(&mut self) -> (RequestId, Request) {
        match self.frame().await {
            Some(ClientFrame::Request { id, body }) => (id, body),
            other => panic!("not a request: {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, message: &impl serde::Serialize) {
        let mut bytes = BytesMut::new();
        FrameCodec::<ClientFrame>::established()
            .encode_frame(message, &mut bytes)
            .unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn reply(&mut self, id: RequestId, result: Result<Response, ApiError>) {
        self.send(&ServerFrame::Reply { id, result }).await;
    }

    pub(crate) async fn item(&mut self, id: RequestId, item: Item) {
        self.send(&ServerFrame::Item { id, item }).await;
    }

    pub(crate) async fn end(&mut self, id: RequestId, result: Result<(), ApiError>) {
        self.send(&ServerFrame::End { id, result }).await;
    }
}

/// `length` bytes of output at `offset`.
pub(crate) fn output(stream: OutputStream, offset: u64, length: usize) -> Item {
    Item::Output(OutputChunk {
        stream,
        offset,
        time_us: offset,
        data: vec![b'x'; length].into(),
    })
}

/// An execution with this number that has completed.
pub(crate) fn record(number: u8) -> ExecutionRecord {
    let user = User {
        uid: 1000,
        name: None,
    };
    ExecutionRecord {
        id: ExecutionId::from_bytes([number; 16]),
        number: number.into(),
        name: None,
        key: None,
        status: Status::Completed,
        user: user.clone(),
        submitted_by: user,
        command: Command::default(),
        command_cut: false,
        working_dir: "/".into(),
        stdin: StdinMode::Null,
        labels: Vec::new(),
        timeout_ms: None,
        kill_grace_ms: 0,
        submitted_at: Timestamp::from_micros(0),
        started_at: None,
        completed_at: None,
        pid: None,
        cancelled_by: None,
        log_path: "/log".into(),
        outcome: None,
    }
}

pub(crate) fn execution(number: u8) -> Response {
    Response::Execution(Box::new(record(number)))
}
