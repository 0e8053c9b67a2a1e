//! The log of one execution and its index.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use escher_protocol::{ExecutionId, OutputStream, OutputTotals, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::log_quota::Room;
use crate::ipc::log_index::{RECORD_BYTES, RecordPlan, encode_header};
use crate::ipc::wire::LogLimits;

/// Appends a command's output to `<id>.log` and its origin to `<id>.idx` (see [`crate::ipc::log_index`]).
///
/// The files are made with the first byte: a command without output costs none. What cannot be written (a
/// full disk, say) or may not be ([`LogLimits`]) is counted. Where the command goes on nevertheless, so does
/// the log once there is room again.
pub(super) struct Log<'a> {
    directory: BorrowedFd<'a>,
    id: ExecutionId,
    start: (Timestamp, Instant),
    files: Option<Files>,
    plan: RecordPlan,
    totals: OutputTotals,
    room: Room,
}

struct Files {
    log: File,
    index: File,
}

impl<'a> Log<'a> {
    pub(super) fn new(
        directory: BorrowedFd<'a>,
        id: ExecutionId,
        start: (Timestamp, Instant),
        limits: LogLimits,
    ) -> Self {
        Log {
            directory,
            id,
            start,
            files: None,
            plan: RecordPlan::default(),
            totals: OutputTotals::default(),
            room: Room::new(limits),
        }
    }

    /// Takes `bytes` that `stream` has just delivered.
    pub(super) fn append(&mut self, stream: OutputStream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        match stream {
            OutputStream::Stdout => self.totals.stdout_bytes += count,
            OutputStream::Stderr => self.totals.stderr_bytes += count,
        }
        let directory = self.directory;
        let free = || free_bytes(directory);
        let granted = self.room.grant(count, self.totals.log_bytes, free);
        // It is at most their number.
        let taken = usize::try_from(granted).map_or(bytes, |granted| &bytes[..granted]);
        let written = match taken {
            [] => 0,
            taken => self.try_append(stream, taken),
        };
        self.room.took(count, granted, written);
        self.totals.log_bytes += written;
        self.totals.dropped_bytes += count - written;
    }

    /// Whether the command is to be ended because the log has not taken everything.
    pub(super) fn ends_command(&self) -> bool {
        self.room.ends_command()
    }

    pub(super) fn totals(&self) -> OutputTotals {
        self.totals
    }

    /// Returns how many bytes are in the log now. The index record goes first, so that no byte stands in
    /// the log without one; where it cannot be written, neither are the bytes.
    fn try_append(&mut self, stream: OutputStream, bytes: &[u8]) -> u64 {
        let offset = self.totals.log_bytes;
        let elapsed = self.start.1.elapsed().as_micros();
        let time_us = u64::try_from(elapsed).unwrap_or(u64::MAX);
        if self.files.is_none() {
            self.files = create(self.directory, self.id, self.start.0).ok();
        }
        let Some(files) = &self.files else { return 0 };
        if let Some(record) = self.plan.due(offset, stream, time_us) {
            // At a fixed place, so that a record that a full disk has torn is overwritten by the next.
            let place = (self.plan.records() + 1) * RECORD_BYTES as u64;
            if files.index.write_all_at(&record.encode(), place).is_err() {
                return 0;
            }
            self.plan.appended(record);
        }
        append_all(&files.log, bytes)
    }
}

/// Bytes that the unprivileged can still use on the file system of `directory` (statvfs(3)).
fn free_bytes(directory: BorrowedFd<'_>) -> Option<u64> {
    let state = fstatvfs(directory).ok()?;
    Some(
        state
            .blocks_available()
            .saturating_mul(state.fragment_size()),
    )
}

/// Never an existing file, never through a link: whatever bears the name was not put there by us
/// (`O_EXCL`, open(2)).
///
/// The index is there, with its header, before the log is. Both are made or neither: an index alone would be
/// in the way of the next attempt.
fn create(directory: BorrowedFd<'_>, id: ExecutionId, start: Timestamp) -> io::Result<Files> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
    let (log_name, index_name) = (format!("{id}.log"), format!("{id}.idx"));
    let open = |name: &str, flags| -> io::Result<File> {
        Ok(openat(directory, name, flags, mode)?.into())
    };
    let index = open(&index_name, flags)?;
    let log = index
        .write_all_at(&encode_header(start), 0)
        .and_then(|()| open(&log_name, flags | OFlag::O_APPEND));
    match log {
        Ok(log) => Ok(Files { log, index }),
        Err(error) => {
            let _ = unlinkat(directory, index_name.as_str(), UnlinkatFlags::NoRemoveDir);
            Err(error)
        }
    }
}

/// Writes until an error and returns how many bytes went in.
fn append_all(log: &File, bytes: &[u8]) -> u64 {
    let mut written = 0;
    while written < bytes.len() {
        match nix::unistd::write(log.as_fd(), &bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    written as u64
}
