//! The log of one execution and its index.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use escher_protocol::{ExecutionId, OutputStream, OutputTotals, Timestamp};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::log_budget::LogBudget;
use super::log_forgetting::{Forgetting, Forgotten};
use super::log_quota::{LogQuota, Wanted};
use super::spawn::StartTime;
use crate::ipc::log_index::{
    HEADER_BYTES, MARK_OFFSET, RECORD_BYTES, Record, RecordPlan, encode_header, encode_mark,
};
use crate::ipc::wire::{LogLimits, WhenLogFull};
use crate::os::acl::grant_read;
use crate::os::file_holes::{block_bytes, punch_hole};

/// Appends a command's output to `<id>.log` and its streams and times to `<id>.idx` (see
/// [`crate::ipc::log_index`]).
///
/// The files are created with the first byte: a command without output has none. Output that cannot
/// be written, because of a full disk or of [`LogLimits`], is counted, and the index says where it is
/// missing. If the command runs on nevertheless, later output is written once there is space again.
pub(super) struct CommandLog<'a> {
    directory: BorrowedFd<'a>,
    id: ExecutionId,
    start: StartTime,
    /// The user who may read the files in addition to those whom their mode names.
    reader: Option<u32>,
    files: Option<Files>,
    plan: RecordPlan,
    totals: OutputTotals,
    quota: LogQuota,
    budget: LogBudget,
    /// The gap at the end of the log, if output is missing there.
    gap: Option<Gap>,
    /// `None` where the oldest output is not forgotten.
    forgetting: Option<Forgetting>,
}

struct Files {
    log: File,
    index: File,
}

/// Output that is missing at the end of the log.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Bytes that had been dropped before.
    dropped_before: u64,
    /// Whether the index says that it begins here.
    is_recorded: bool,
}

/// The records that precede a piece of output.
#[derive(Debug, Default)]
struct DueRecords {
    /// Those of a gap that ends.
    gap: Vec<Record>,
    output: Option<Record>,
    /// Whether `output` is for the time alone.
    for_time_alone: bool,
}

impl DueRecords {
    fn wanted(&self, output: u64, header: u64) -> Wanted {
        let record_bytes = RECORD_BYTES as u64;
        let gap = self.gap.len() as u64 * record_bytes;
        let record = self.output.map_or(0, |_| record_bytes);
        let (index, times) = if self.for_time_alone {
            (0, record)
        } else {
            (record, 0)
        };
        Wanted {
            output,
            index: header + gap + index,
            times,
        }
    }
}

impl<'a> CommandLog<'a> {
    /// Creates the log of a command that the user `submitter_uid` has submitted.
    pub(super) fn new(
        directory: BorrowedFd<'a>,
        id: ExecutionId,
        submitter_uid: u32,
        start: StartTime,
        limits: LogLimits,
        budget: u64,
    ) -> Self {
        let max_bytes = match limits.max_bytes {
            0 => u64::MAX,
            max_bytes => max_bytes,
        };
        let budget = LogBudget::new(budget, max_bytes);
        let max_bytes = budget.bytes();
        let forgets = limits.when_full == WhenLogFull::ForgetOldest && limits.max_bytes > 0;
        CommandLog {
            directory,
            id,
            start,
            // Root, and the owner of the files, may read them already.
            reader: Some(submitter_uid).filter(|uid| ![0, geteuid().as_raw()].contains(uid)),
            files: None,
            plan: RecordPlan::default(),
            totals: OutputTotals::default(),
            quota: LogQuota::new(LogLimits {
                max_bytes,
                ..limits
            }),
            budget,
            gap: None,
            forgetting: forgets.then(|| Forgetting::new(max_bytes, block_bytes(directory))),
        }
    }

    /// Appends `bytes` of `stream`.
    pub(super) fn append(&mut self, stream: OutputStream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        match stream {
            OutputStream::Stdout => self.totals.stdout_bytes += count,
            OutputStream::Stderr => self.totals.stderr_bytes += count,
        }
        self.budget.note_output(count);
        let step = self.forgetting.as_ref().map(Forgetting::step_bytes);
        let longest = step.and_then(|step| usize::try_from(step).ok());
        for piece in bytes.chunks(longest.unwrap_or(usize::MAX)) {
            self.append_piece(stream, piece);
        }
    }

    /// As [`LogQuota::ends_command`].
    pub(super) fn ends_command(&self) -> bool {
        self.quota.ends_command()
    }

    /// Changes the budget, or its request, by `change`.
    pub(super) fn change_budget(&mut self, change: impl FnOnce(&mut LogBudget)) {
        let before = self.budget.bytes();
        change(&mut self.budget);
        let max_bytes = self.budget.bytes();
        if max_bytes != before {
            self.quota.set_max_bytes(max_bytes);
            if let Some(forgetting) = &mut self.forgetting {
                forgetting.set_max_bytes(max_bytes);
            }
        }
    }

    /// Prepares for output that follows after the end of the execution. The log exists from now on, and
    /// takes no more than its budget, the rest of which is reserved.
    pub(super) fn reserve_rest(&mut self) {
        self.change_budget(LogBudget::freeze);
        if self.open_files().is_some() {
            let used = self.used_bytes();
            self.totals.reserved_bytes = self.budget.bytes().saturating_sub(used);
        }
    }

    /// Whether there is no log, or none any more (unlink(2)).
    pub(super) fn is_deleted(&self) -> bool {
        let links = |files: &Files| files.log.metadata().map_or(0, |log| log.nlink());
        self.files.as_ref().is_none_or(|files| links(files) == 0)
    }

    pub(super) fn budget(&self) -> &LogBudget {
        &self.budget
    }

    pub(super) fn totals(&self) -> OutputTotals {
        self.totals
    }

    /// Appends as much of `bytes` as the limits and the disk allow, and drops the rest.
    fn append_piece(&mut self, stream: OutputStream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        let records = self.due_records(stream);
        let header = self.files.as_ref().map_or(HEADER_BYTES as u64, |_| 0);
        let wanted = records.wanted(count, header);
        self.make_space(wanted);
        let (directory, used) = (self.directory, self.used_bytes());
        let free = || free_bytes(directory);
        let granted = self.quota.grant(wanted, used, free);
        // At most `bytes.len()` are granted.
        let accepted = usize::try_from(granted.output).map_or(bytes, |granted| &bytes[..granted]);
        let written = match accepted {
            [] => 0,
            accepted => self.try_append(records, granted.times, accepted),
        };
        self.quota.note_output(count, granted.output, written);
        self.totals.log_bytes += written;
        if written < count {
            self.open_gap();
            self.totals.dropped_bytes += count - written;
        }
    }

    /// Returns the records that go before output of `stream` that arrives now.
    fn due_records(&self, stream: OutputStream) -> DueRecords {
        let offset = self.totals.log_bytes;
        let elapsed = self.start.instant.elapsed().as_micros();
        let time_us = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let Some(gap) = self.gap else {
            let due = self.plan.due(offset, stream, time_us);
            return DueRecords {
                gap: Vec::new(),
                output: due.map(|due| due.record),
                for_time_alone: due.is_some_and(|due| due.for_time_alone),
            };
        };
        let begin = Record::missing(offset, gap.dropped_before);
        let end = Record::missing(offset, self.totals.dropped_bytes);
        let recorded = usize::from(gap.is_recorded);
        DueRecords {
            gap: [begin, end].into_iter().skip(recorded).collect(),
            output: Some(Record::output(offset, stream, time_us)),
            for_time_alone: false,
        }
    }

    /// Writes as much as possible and returns how many bytes that was. The index records go first,
    /// so that no byte is in the log without one; if they cannot be written, neither are the bytes.
    fn try_append(&mut self, records: DueRecords, with_times: bool, bytes: &[u8]) -> u64 {
        if self.open_files().is_none() {
            return 0;
        }
        let output = records
            .output
            .filter(|_| with_times || !records.for_time_alone);
        let ends_gap = !records.gap.is_empty();
        let records: Vec<Record> = records.gap.into_iter().chain(output).collect();
        let before = self.plan.clone();
        if !self.append_records(&records) {
            return 0;
        }
        let Some(files) = &self.files else { return 0 };
        let written = append_all(&files.log, bytes);
        if written == 0 && ends_gap {
            self.take_back_records(before);
            return 0;
        }
        if ends_gap {
            self.gap = None;
        }
        if let Some(forgetting) = &mut self.forgetting {
            let (index, place) = (self.plan.index_bytes(), self.plan.last_output_at());
            forgetting.note_piece(self.totals.log_bytes, index, place);
        }
        written
    }

    /// Returns the files, which it creates if there are none.
    fn open_files(&mut self) -> Option<&Files> {
        if self.files.is_none() {
            let files = create(self.directory, self.id, self.start.time).ok()?;
            if let Some(reader) = self.reader {
                files.allow_reading(reader);
            }
            self.files = Some(files);
            self.quota.note_written(HEADER_BYTES as u64);
        }
        self.files.as_ref()
    }

    /// Removes the records after those of `plan`: the index had space for them, and the log has none
    /// for their output. Otherwise they would say that the gap has ended.
    fn take_back_records(&mut self, plan: RecordPlan) {
        let Some(files) = &self.files else { return };
        if files.index.set_len(plan.index_bytes()).is_ok() {
            self.quota
                .note_deleted(self.plan.index_bytes() - plan.index_bytes());
            self.plan = plan;
        } else {
            self.gap = None;
        }
    }

    /// Appends records to the index; returns whether they are there.
    fn append_records(&mut self, records: &[Record]) -> bool {
        let Some(files) = &self.files else {
            return false;
        };
        if records.is_empty() {
            return true;
        }
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.encode()).collect();
        // At a computed offset, so that the next records overwrite what a full disk has torn.
        let end = self.plan.index_bytes();
        if files.index.write_all_at(&bytes, end).is_err() {
            return false;
        }
        self.quota.note_written(bytes.len() as u64);
        for record in records {
            self.plan.appended(*record);
        }
        true
    }

    /// Notes that output is missing at the end of the log, in the index too if that can be written.
    fn open_gap(&mut self) {
        let dropped_before = self.totals.dropped_bytes;
        let gap = self.gap.get_or_insert(Gap {
            dropped_before,
            is_recorded: false,
        });
        if !gap.is_recorded {
            let begin = Record::missing(self.totals.log_bytes, gap.dropped_before);
            // The quota has kept space for it.
            let is_recorded = self.append_records(&[begin]);
            if let Some(gap) = &mut self.gap {
                gap.is_recorded = is_recorded;
            }
        }
    }

    /// Returns the bytes that log and index take on the disk.
    pub(super) fn used_bytes(&self) -> u64 {
        let index = self.files.as_ref().map_or(0, |_| self.plan.index_bytes());
        let forgetting = self.forgetting.as_ref();
        let holes = forgetting.map_or(0, |forgetting| forgetting.forgotten().hole_bytes());
        (self.totals.log_bytes + index).saturating_sub(holes)
    }

    /// Forgets the oldest output if what is `wanted` would exceed the limit.
    fn make_space(&mut self, wanted: Wanted) {
        let excess = self.quota.excess(wanted, self.used_bytes());
        let (Some(files), Some(forgetting)) = (&self.files, &mut self.forgetting) else {
            return;
        };
        if excess == 0 {
            return;
        }
        let Some(forgotten) = forgetting.choose(excess) else {
            return;
        };
        if files.mark_forgotten(forgotten.up_to).is_err() {
            return;
        }
        // From here on no reader takes what lies below, whether it is still there or not.
        self.totals.forgotten_bytes = forgotten.up_to;
        let before = forgetting.forgotten();
        if files.punch_holes(&before, &forgotten).is_ok() {
            let deleted = forgotten.hole_bytes().saturating_sub(before.hole_bytes());
            self.quota.note_deleted(deleted);
            forgetting.forget(forgotten);
        }
    }
}

impl Files {
    /// Allows one more user to read the files. Where the file system has no access control lists,
    /// or no space for one, they can be read through escherd alone.
    fn allow_reading(&self, uid: u32) {
        for file in [&self.index, &self.log] {
            let _ = grant_read(file.as_fd(), uid);
        }
    }

    /// Says in the index that the log is forgotten up to an offset. That is on the disk before this
    /// returns: after a power cut, no hole may be taken for output.
    fn mark_forgotten(&self, up_to: u64) -> io::Result<()> {
        self.index.write_all_at(&encode_mark(up_to), MARK_OFFSET)?;
        self.index.sync_data()
    }

    /// Frees the space of what is forgotten now and was not `before`.
    fn punch_holes(&self, before: &Forgotten, now: &Forgotten) -> io::Result<()> {
        punch_hole(&self.log, before.log_hole_end, now.log_hole_end)?;
        let start = before.index_hole_end.max(now.index_hole_start);
        punch_hole(&self.index, start, now.index_hole_end)
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
