//! Digests of large outputs, by sha256sum(1), which is faster than anything built for tests.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running sha256sum.
#[derive(Debug)]
pub struct Digest {
    child: Child,
}

impl Digest {
    /// Reads `source` to its end.
    #[must_use]
    pub fn of_reader(source: impl Into<Stdio>) -> Self {
        let child = Command::new("sha256sum")
            .stdin(source)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sha256sum (coreutils)");
        Digest { child }
    }

    /// Reads what is written to the returned pipe.
    #[must_use]
    pub fn of_pipe() -> (Self, ChildStdin) {
        let mut digest = Digest::of_reader(Stdio::piped());
        let stdin = digest.child.stdin.take().unwrap();
        (digest, stdin)
    }

    /// Waits for the end of the source, and returns the digest in hexadecimal digits.
    #[must_use]
    pub fn hex(mut self) -> String {
        let mut line = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        line.split(' ').next().unwrap().to_owned()
    }
}

/// The digest of `bytes`.
#[must_use]
pub fn sha256sum(bytes: &[u8]) -> String {
    let (digest, mut stdin) = Digest::of_pipe();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    digest.hex()
}
