//! Large outputs, by their digests: the real sha256sum is faster than anything built for tests.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// A running sha256sum.
#[derive(Debug)]
pub struct Digest {
    child: Child,
}

impl Digest {
    /// Of everything that can be read from `source`.
    #[must_use]
    pub fn of(source: impl Into<Stdio>) -> Self {
        let child = Command::new("sha256sum")
            .stdin(source)
            .stdout(Stdio::piped())
            .spawn()
            .expect("sha256sum (coreutils)");
        Digest { child }
    }

    /// Of what is written into it.
    #[must_use]
    pub fn of_written() -> (Self, std::process::ChildStdin) {
        let mut digest = Digest::of(Stdio::piped());
        let stdin = digest.child.stdin.take().unwrap();
        (digest, stdin)
    }

    /// The digest in hexadecimal digits, once the source is at its end.
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
    let (digest, mut stdin) = Digest::of_written();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    digest.hex()
}
