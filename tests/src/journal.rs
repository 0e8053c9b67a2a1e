//! A journal that is not systemd's: what a program writes to it in journald's own protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::{DEADLINE, Home};

/// The socket of a journal, in a folder of its own.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    /// One in `home`.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        let folder = home.path().join("journal");
        fs::create_dir(&folder).unwrap();
        let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Journal { folder, socket }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The fields of the next entry.
    #[must_use]
    pub fn next(&self) -> BTreeMap<String, String> {
        let mut datagram = vec![0; 64 * 1024];
        loop {
            let length = self.socket.recv(&mut datagram).expect("an entry in time");
            // An empty one asks whether anybody is there.
            if length > 0 {
                return fields(&datagram[..length]);
            }
        }
    }
}

/// `NAME=value`, or `NAME`, a length of eight bytes, little endian, and the value; a newline behind each.
fn fields(mut rest: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut fields = BTreeMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(place) => (text(&line[..place]), text(&line[place + 1..])),
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
