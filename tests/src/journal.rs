//! A stand-in for systemd's journal: receives what a program writes in journald's own protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::{Home, wait};

/// The socket of a journal, in a directory of its own.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    /// Creates one in `home`.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        let directory = home.path().join("journal");
        fs::create_dir(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        Journal { directory, socket }
    }

    /// The directory of its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits for the next entry, and returns its fields.
    #[must_use]
    pub fn next_entry(&self) -> BTreeMap<String, String> {
        let mut datagram = vec![0; 64 * 1024];
        loop {
            let length = wait::receive(&self.socket, &mut datagram).expect("an entry in time");
            // An empty datagram only asks whether the journal listens.
            if length > 0 {
                return fields(&datagram[..length]);
            }
        }
    }
}

/// Parses fields: `NAME=value`, or `NAME`, a length of eight bytes, little endian, and the value; a newline
/// after each.
fn fields(mut rest: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut fields = BTreeMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => (text(&line[..equals]), text(&line[equals + 1..])),
            None => {
                let (length, value) = rest.split_first_chunk().expect("a length");
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                rest = &value[length + 1..];
                (text(line), text(&value[..length]))
            }
        };
        fields.insert(name, value);
    }
    fields
}
