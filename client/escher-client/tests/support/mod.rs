//! The other end of a connection, played by the test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use escher_client::protocol::frame::FrameCodec;
use escher_client::protocol::handshake::{Hello, HelloReply, SessionLimits};
use escher_client::protocol::{
    ClientFrame, InstanceId, Item, Request, RequestId, Response, ServerFrame, User,
};
use escher_client::{
    ApiError, Client, Command, ConnectError, Connector, DaemonInfo, ExecutionId, ExecutionRecord,
    OutputChunk, OutputStream, Parts, Resources, Status, StdinMode, Timestamp, Welcome,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The window of every stream, unless a test sets another.
pub(crate) const WINDOW: u32 = 4_000;

pub(crate) struct Daemon {
    directory: TempDir,
    path: PathBuf,
    /// `None` while the daemon is away.
    listener: Option<UnixListener>,
    pub(crate) limits: SessionLimits,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_in("")
    }

    /// With its socket in a directory somewhere below the test's.
    pub(crate) fn start_in(below: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(below).join("escherd.sock");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        Daemon {
            directory,
            path,
            listener: Some(listener),
            limits: SessionLimits {
                max_frame_bytes: 100_000,
                max_requests_in_flight: 16,
                stream_window_bytes: WINDOW,
            },
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Takes no more connections. The socket stays, as that of a daemon that was killed.
    pub(crate) fn go_away(&mut self) {
        self.listener = None;
    }

    /// As escherd does it: a new socket that is closed to all at first.
    pub(crate) fn come_back(&mut self) {
        self.go_away();
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
        self.listener = Some(UnixListener::bind(self.path()).unwrap());
        let open = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(self.path(), open).unwrap();
    }

    /// Takes a connection and reads its greeting.
    pub(crate) async fn greeted(&self) -> (Peer, Hello) {
        let listener = self.listener.as_ref().expect("the daemon is there");
        let (stream, _) = listener.accept().await.unwrap();
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

    /// Takes a connection and welcomes it.
    pub(crate) async fn welcomed(&self) -> Peer {
        let (mut peer, _) = self.greeted().await;
        peer.send(&HelloReply::Welcome(self.welcome())).await;
        peer
    }

    /// Both ends of a connection.
    pub(crate) async fn connect(&self) -> (Client, Peer) {
        self.connect_by(self.connector()).await
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(self.path())
    }

    pub(crate) async fn connect_by(&self, connector: Connector) -> (Client, Peer) {
        let (client, peer) = tokio::join!(connector.connect(), self.welcomed());
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

    /// The next request, whatever is granted or abandoned before it.
    pub(crate) async fn next_request(&mut self) -> (RequestId, Request) {
        loop {
            match self.frame().await {
                Some(ClientFrame::Request { id, body }) => return (id, body),
                Some(_) => {}
                None => panic!("the client has hung up"),
            }
        }
    }

    pub(crate) async fn send(&mut self, message: &impl serde::Serialize) {
        let mut bytes = BytesMut::new();
        FrameCodec::<ClientFrame>::established()
            .encode_frame(message, &mut bytes)
            .unwrap();
        match self.stream.write_all(&bytes).await {
            // It has heard enough and is gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
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
        resources: Resources::default(),
        parts: Parts::new(),
    }
}

pub(crate) fn execution(number: u8) -> Response {
    Response::Execution(Box::new(record(number)))
}

/// About an escherd that has done nothing yet.
pub(crate) fn info() -> DaemonInfo {
    DaemonInfo {
        version: "0".into(),
        instance: InstanceId::from_bytes([2; 16]),
        pid: 1,
        uid: 0,
        started_at: Timestamp::from_micros(0),
        serves_all_users: false,
        launcher_pid: None,
        log_dir: "/l".into(),
        state_dir: "/s".into(),
        pending: 0,
        running: 0,
        finished: 0,
        max_concurrent_executions: 1,
        max_pending_executions: 1,
        default_timeout_ms: 0,
        max_timeout_ms: 0,
        max_output_size_bytes: 0,
    }
}
