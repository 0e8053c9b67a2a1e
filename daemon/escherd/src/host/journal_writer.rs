//! Writes log lines to systemd's journal, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! The whole line becomes the message of an entry, with the values of its fields: `journalctl` and most
//! tools show nothing else.

use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The socket of journald.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest message of an entry, in bytes. A longer one might not fit into a datagram.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The journal, as a place for log lines.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal.
    ///
    /// # Errors
    /// Those of connect(2): there is no journal.
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Journal(socket))
    }
}

impl<'j> MakeWriter<'j> for Journal {
    type Writer = Entry<'j>;

    fn make_writer(&'j self) -> Entry<'j> {
        Entry {
            journal: self,
            level: Level::INFO,
        }
    }

    fn make_writer_for(&'j self, metadata: &Metadata<'_>) -> Entry<'j> {
        Entry {
            journal: self,
            level: *metadata.level(),
        }
    }
}

/// Takes the line of one entry, in one write.
pub(super) struct Entry<'j> {
    journal: &'j Journal,
    level: Level,
}

impl io::Write for Entry<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.journal.0.send(&encode(self.level, line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes an entry.
fn encode(level: Level, line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let message = &line[..line.len().min(MAX_MESSAGE_BYTES)];
    let priority = priority(level);
    let mut entry =
        format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=escherd\nMESSAGE\n").into_bytes();
    entry.extend_from_slice(&(message.len() as u64).to_le_bytes());
    entry.extend_from_slice(message);
    entry.push(b'\n');
    entry
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_message_of_one_entry() {
        let entry = encode(Level::WARN, b"a: b\nc\n");
        let expected =
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=escherd\nMESSAGE\n\x06\0\0\0\0\0\0\0a: b\nc\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_message_has_a_limit() {
        let header = encode(Level::INFO, b"").len();
        for (length, kept) in [
            (MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
            (MAX_MESSAGE_BYTES + 1, MAX_MESSAGE_BYTES),
        ] {
            let entry = encode(Level::ERROR, &vec![b'x'; length]);
            assert_eq!(entry.len() - header, kept);
        }
    }
}
