//! A fake escherd, whose side of each connection is played by the test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use escher_client::{Client, ConnectError, Connector};
use escher_protocol::frame::FrameCodec;
use escher_protocol::handshake::{Hello, HelloReply, SessionLimits, Welcome};
use escher_protocol::{
    ApiError, ClientFrame, InstanceId, Item, OutputChunk, OutputStream, Request, RequestId,
    Response, ServerFrame,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::samples;

/// The flow control window of every stream, unless a test sets another.
pub const STREAM_WINDOW: u32 = 4_000;

/// A socket on which a test plays escherd.
pub struct FakeDaemon {
    directory: TempDir,
    path: PathBuf,
    /// `None` while the daemon is stopped.
    listener: Option<UnixListener>,
    /// The limits of the next connection.
    pub limits: SessionLimits,
}

impl FakeDaemon {
    /// Listens on a socket in a temporary directory.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in("")
    }

    /// Listens on a socket in this subdirectory of a temporary directory.
    #[must_use]
    pub fn start_in(subdirectory: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(subdirectory).join("escherd.sock");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        FakeDaemon {
            directory,
            path,
            listener: Some(listener),
            limits: SessionLimits {
                max_frame_bytes: 100_000,
                max_requests_in_flight: 16,
                stream_window_bytes: STREAM_WINDOW,
            },
        }
    }

    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The temporary directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Refuses new connections. The socket's file remains, as after SIGKILL.
    pub fn stop(&mut self) {
        self.listener = None;
    }

    /// Listens on a new socket, which admits no one until its mode is set, as escherd does it.
    pub fn restart(&mut self) {
        self.stop();
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
        self.listener = Some(UnixListener::bind(self.path()).unwrap());
        let open = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(self.path(), open).unwrap();
    }

    /// Accepts a connection and reads its [`Hello`].
    pub async fn accept_hello(&self) -> (ServerConnection, Hello) {
        let listener = self.listener.as_ref().expect("the fake daemon is stopped");
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = ServerConnection {
            stream,
            buffer: BytesMut::new(),
        };
        let hello = server
            .read(&FrameCodec::<Hello>::handshake())
            .await
            .unwrap();
        (server, hello)
    }

    /// The welcome with the current limits.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        Welcome {
            version: 1,
            daemon: "escherd test".into(),
            instance: InstanceId::from_bytes([1; 16]),
            limits: self.limits,
        }
    }

    /// Accepts a connection and completes its handshake.
    pub async fn accept(&self) -> ServerConnection {
        let (mut server, _) = self.accept_hello().await;
        server.send(&HelloReply::Welcome(self.welcome())).await;
        server
    }

    /// Connects a client. Returns both ends of the connection.
    pub async fn connect(&self) -> (Client, ServerConnection) {
        self.connect_with(self.connector()).await
    }

    /// A connector to the socket.
    pub fn connector(&self) -> Connector {
        Connector::new(self.path())
    }

    /// Connects a client with this connector. Returns both ends of the connection.
    pub async fn connect_with(&self, connector: Connector) -> (Client, ServerConnection) {
        let (client, server) = tokio::join!(connector.connect(), self.accept());
        (client.unwrap(), server)
    }

    /// Connects a client and answers its [`Hello`] with `reply`.
    ///
    /// # Errors
    /// The error of the client.
    pub async fn connect_replying(&self, reply: &HelloReply) -> Result<Client, ConnectError> {
        let (connected, ()) = tokio::join!(Client::connect(self.path()), async {
            let (mut server, _) = self.accept_hello().await;
            server.send(reply).await;
        });
        connected
    }
}

/// The server's end of a connection.
pub struct ServerConnection {
    /// The socket.
    pub stream: UnixStream,
    buffer: BytesMut,
}

impl ServerConnection {
    /// Reads a message. Returns `None` if the client has closed the connection.
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

    /// Reads a frame. Returns `None` if the client has closed the connection.
    pub async fn frame(&mut self) -> Option<ClientFrame> {
        self.read(&FrameCodec::established()).await
    }

    /// Reads a frame, which must be a request.
    pub async fn request(&mut self) -> (RequestId, Request) {
        match self.frame().await {
            Some(ClientFrame::Request { id, body }) => (id, body),
            other => panic!("not a request: {other:?}"),
        }
    }

    /// Reads the next request, skipping other frames.
    pub async fn next_request(&mut self) -> (RequestId, Request) {
        loop {
            match self.frame().await {
                Some(ClientFrame::Request { id, body }) => return (id, body),
                Some(_) => {}
                None => panic!("the client has closed the connection"),
            }
        }
    }

    /// Sends a message. Succeeds if the client has closed the connection already.
    pub async fn send(&mut self, message: &impl serde::Serialize) {
        let mut bytes = BytesMut::new();
        FrameCodec::<ClientFrame>::established()
            .encode_frame(message, &mut bytes)
            .unwrap();
        match self.stream.write_all(&bytes).await {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
    }

    /// Answers a request by one value.
    pub async fn reply(&mut self, id: RequestId, result: Result<Response, ApiError>) {
        self.send(&ServerFrame::Reply { id, result }).await;
    }

    /// Sends an item of the stream that answers a request.
    pub async fn item(&mut self, id: RequestId, item: Item) {
        self.send(&ServerFrame::Item { id, item }).await;
    }

    /// Ends the stream that answers a request.
    pub async fn end(&mut self, id: RequestId, result: Result<(), ApiError>) {
        self.send(&ServerFrame::End { id, result }).await;
    }
}

/// An item of `length` bytes of output at `offset`.
#[must_use]
pub fn output_item(stream: OutputStream, offset: u64, length: usize) -> Item {
    Item::Output(OutputChunk {
        stream,
        offset,
        time_us: offset,
        data: vec![b'x'; length].into(),
    })
}

/// A response with the [sample record](samples::record) of this number.
#[must_use]
pub fn record_response(number: u64) -> Response {
    Response::Execution(Box::new(samples::record(number)))
}
