//! The log of one execution and its index.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use escher_protocol::{ExecutionId, OutputStream, OutputTotals, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::log_quota::LogQuota;
use super::spawn::Start;
use crate::ipc::log_index::{RECORD_BYTES, RecordPlan, encode_header};
use crate::ipc::wire::LogLimits;

/// Appends a command's output to `<id>.log` and its streams and times to `<id>.idx` (see
/// [`crate::ipc::log_index`]).
///
/// The files are created with the first byte: a command without output has none. Output that cannot
/// be written, because of a full disk or of [`LogLimits`], is counted. If the command runs on
/// nevertheless, later output is written once there is space again.
pub(super) struct CommandLog<'a> {
    directory: BorrowedFd<'a>,
    id: ExecutionId,
    start: Start,
    files: Option<Files>,
    plan: RecordPlan,
    totals: OutputTotals,
    quota: LogQuota,
}

struct Files {
    log: File,
    index: File,
}

impl<'a> CommandLog<'a> {
    pub(super) fn new(
        directory: BorrowedFd<'a>,
        id: ExecutionId,
        start: Start,
        limits: LogLimits,
    ) -> Self {
        CommandLog {
            directory,
            id,
            start,
            files: None,
            plan: RecordPlan::default(),
            totals: OutputTotals::default(),
            quota: LogQuota::new(limits),
        }
    }

    /// Appends `bytes` of `stream`.
    pub(super) fn append(&mut self, stream: OutputStream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        match stream {
            OutputStream::Stdout => self.totals.stdout_bytes += count,
            OutputStream::Stderr => self.totals.stderr_bytes += count,
        }
        let directory = self.directory;
        let free = || free_bytes(directory);
        let granted = self.quota.grant(count, self.totals.log_bytes, free);
        // At most `bytes.len()` are granted.
        let accepted = usize::try_from(granted).map_or(bytes, |granted| &bytes[..granted]);
        let written = match accepted {
            [] => 0,
            accepted => self.try_append(stream, accepted),
        };
        self.quota.note_written(count, granted, written);
        self.totals.log_bytes += written;
        self.totals.dropped_bytes += count - written;
    }

    /// As [`LogQuota::ends_command`].
    pub(super) fn ends_command(&self) -> bool {
        self.quota.ends_command()
    }

    pub(super) fn totals(&self) -> OutputTotals {
        self.totals
    }

    /// Writes as much as possible and returns how many bytes that was. The index record goes first,
    /// so that no byte is in the log without one; if it cannot be written, neither are the bytes.
    fn try_append(&mut self, stream: OutputStream, bytes: &[u8]) -> u64 {
        let offset = self.totals.log_bytes;
        let elapsed = self.start.instant.elapsed().as_micros();
        let time_us = u64::try_from(elapsed).unwrap_or(u64::MAX);
        if self.files.is_none() {
            self.files = create(self.directory, self.id, self.start.time).ok();
        }
        let Some(files) = &self.files else { return 0 };
        if let Some(record) = self.plan.due(offset, stream, time_us) {
            // At a computed offset, so that the next record overwrites one that a full disk has
            // torn.
            let end = (self.plan.records() + 1) * RECORD_BYTES as u64;
            if files.index.write_all_at(&record.encode(), end).is_err() {
                return 0;
            }
            self.plan.appended(record);
        }
        append_all(&files.log, bytes)
    }
}

/// Returns the bytes that unprivileged users can still use on the file system of `directory`
/// (statvfs(3)).
fn free_bytes(directory: BorrowedFd<'_>) -> Option<u64> {
    let state = fstatvfs(directory).ok()?;
    Some(
        state
            .blocks_available()
            .saturating_mul(state.fragment_size()),
    )
}

/// Creates the index with its header and then the log, or neither: an index alone would make the
/// next try fail. An existing file or symbolic link is never opened (`O_EXCL`, open(2)), because no
/// shim has made it.
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

/// Writes until everything is written or an error occurs, and returns how many bytes were written.
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
