//! A client of HTTP that need not keep to it, and reads answers without a library.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::{DEADLINE, Daemon};

/// A bare connection.
#[derive(Debug)]
pub struct HttpPeer {
    stream: BufReader<UnixStream>,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct HttpHead {
    /// The status.
    pub status: u16,
    headers: BTreeMap<String, String>,
}

/// An answer that was read to its end.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The head.
    pub head: HttpHead,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body has ended as its head says, and was not broken off.
    pub is_whole: bool,
}

impl HttpHead {
    /// A header, by its name in lower case; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl HttpAnswer {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as one object per line.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("an object per line");
        self.text().lines().map(parse).collect()
    }

    /// Fails unless the status is this.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.head.status, status, "{:?} {text}", self.head);
        self
    }
}

impl HttpPeer {
    /// Connects and sends nothing.
    #[must_use]
    pub fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.home().socket()).expect("escherd listens");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        HttpPeer {
            stream: BufReader::new(stream),
        }
    }

    /// Sends bytes. escherd may have hung up; its answer can still be received.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Sends a request with these lines of its head besides the first.
    pub fn request(&mut self, first: &str, headers: &str, body: &[u8]) {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head = format!("{first} HTTP/1.1\r\nHost: escher\r\n{headers}{length}\r\n");
        self.send([head.as_bytes(), body].concat());
    }

    /// Receives the head of an answer; `None` if escherd hangs up instead.
    pub fn head(&mut self) -> Option<HttpHead> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Some(HttpHead {
            status: status.unwrap_or_else(|| panic!("no answer of HTTP: {first:?}")),
            headers,
        })
    }

    /// Receives a whole answer.
    #[track_caller]
    pub fn answer(&mut self) -> HttpAnswer {
        let head = self.head().expect("an answer");
        let mut body = Vec::new();
        let is_whole = if head.header("transfer-encoding") == "chunked" {
            loop {
                match self.chunk() {
                    None => break false,
                    Some(chunk) if chunk.is_empty() => break true,
                    Some(chunk) => body.extend(chunk),
                }
            }
        } else if let Ok(length) = head.header("content-length").parse::<u64>() {
            let read = (&mut self.stream).take(length).read_to_end(&mut body);
            read.is_ok() && body.len() as u64 == length
        } else {
            self.stream.read_to_end(&mut body).is_ok()
        };
        HttpAnswer {
            head,
            body,
            is_whole,
        }
    }

    /// Receives a chunk of a body; the last one is empty. `None`: it was broken off.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line()?, 16).ok()?;
        if length == 0 {
            // Up to the empty line after the trailers.
            while !self.line()?.is_empty() {}
            return Some(Vec::new());
        }
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).ok()?;
        self.line()?;
        Some(chunk)
    }

    /// Receives a line without its end; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let length = self.stream.read_until(b'\n', &mut line).ok()?;
        let line = String::from_utf8_lossy(&line);
        (length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads until escherd hangs up. Returns what came.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}

/// Sends one request over a connection of its own, with a body of JSON.
#[track_caller]
pub fn http(daemon: &Daemon, first: &str, body: &str) -> HttpAnswer {
    let mut peer = HttpPeer::connect(daemon);
    let headers = match body {
        "" => "",
        _ => "Content-Type: application/json\r\n",
    };
    peer.request(first, headers, body.as_bytes());
    peer.answer()
}
