//! Changes to rows, within a transaction of the writer.

use escher_protocol::message::Event;
use escher_protocol::{CancelMode, ExecutionId, ExecutionRecord, Text, Timestamp, User};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::checksum::{self, BlobKind};
use super::columns::{self, StoredProgress, signed, unsigned};
use super::error::DatabaseError;
use super::journal::replay::Missing;
use super::totals::WriterState;
use super::user_totals::UserTotals;
use super::{Change, ChangeEntry, CommitOutcome, DroppedEvent, RequestDigest};
use crate::execution::{Submission, shown_command};

/// A transaction under way.
#[derive(Debug)]
pub(super) struct StoreTransaction<'a> {
    /// The connection, in the transaction.
    pub(super) connection: &'a Connection,
    /// The state after the transaction, discarded if that fails.
    pub(super) state: &'a mut WriterState,
    /// The totals of each user, with what the transaction changes.
    pub(super) users: &'a mut UserTotals,
}

/// Applies to the database what only its journal has.
pub(super) fn apply_missing(
    connection: &mut Connection,
    missing: &Missing,
) -> Result<(), DatabaseError> {
    if missing.entries.is_empty() {
        return Ok(());
    }
    let mut state = WriterState::read(connection)?;
    let mut users = UserTotals::read(connection, state.totals.history)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut changes = StoreTransaction {
        connection: &transaction,
        state: &mut state,
        users: &mut users,
    };
    for entry in &missing.entries {
        changes.apply(entry)?;
    }
    state.totals.journal_sequence = missing.last_sequence;
    state.totals.write(&transaction)?;
    users.write(&transaction)?;
    transaction.commit()?;
    let count = missing.entries.len();
    tracing::info!("{count} changes came from the journal");
    Ok(())
}

impl StoreTransaction<'_> {
    /// Writes `entry` with its events.
    ///
    /// # Errors
    /// The whole transaction has to be rolled back then.
    pub(super) fn apply(&mut self, entry: &ChangeEntry) -> Result<CommitOutcome, DatabaseError> {
        let outcome = match &entry.change {
            Change::Submitted {
                submission,
                digest,
                is_admitted,
            } => self.submit(submission, *digest, *is_admitted)?,
            Change::Restored { submission, digest } => self.submit(submission, *digest, true)?,
            Change::Removed { numbers } => self.remove_all(numbers)?,
            Change::LogsRemoved { numbers } => self.remove_logs(numbers)?,
            Change::Admitted {
                number,
                reads_submission,
            } => self.admit(*number, *reads_submission)?,
            Change::Finished { record } => self.finish(record)?,
            other => {
                self.apply_unrefusable(other)?;
                CommitOutcome::Committed
            }
        };
        if outcome.is_committed() {
            for event in &entry.events {
                self.insert_event(event)?;
            }
        }
        for dropped in &entry.dropped_events {
            self.delete_event(*dropped)?;
        }
        Ok(outcome)
    }

    /// Applies a change that has no outcome of its own.
    fn apply_unrefusable(&mut self, change: &Change) -> Result<(), DatabaseError> {
        match change {
            Change::Submitted { .. }
            | Change::Restored { .. }
            | Change::Finished { .. }
            | Change::Removed { .. }
            | Change::LogsRemoved { .. }
            | Change::Admitted { .. } => Ok(()),
            Change::Started { number, pid, at } => self.update_progress(*number, |progress| {
                progress.is_admitted = true;
                progress.started = Some((*pid, *at));
            }),
            Change::CancelRequested {
                number,
                canceller,
                mode,
            } => self.update_progress(*number, |progress| match &mut progress.cancel {
                // The first canceller counts; a later one can only add SIGKILL.
                Some((_, earlier)) if *mode == CancelMode::Kill => *earlier = *mode,
                Some(_) => {}
                none => *none = Some((canceller.clone(), *mode)),
            }),
            Change::LaunchAttemptsCleared { numbers } => numbers.iter().try_for_each(|number| {
                self.update_progress(*number, |progress| progress.launch_attempts = 0)
            }),
            Change::LogsDeleted { ids } => {
                ids.iter().try_for_each(|id| self.delete_undeleted_log(*id))
            }
        }
    }

    /// Inserts an execution, or refuses it.
    fn submit(
        &mut self,
        submission: &Submission,
        digest: Option<RequestDigest>,
        is_admitted: bool,
    ) -> Result<CommitOutcome, DatabaseError> {
        match self.insert_submission(submission, digest, is_admitted) {
            // The rejected row is the first statement, so nothing was written.
            Err(error) if error.is_row_rejected() => {
                let number = submission.number;
                let reason = format!("execution {number} cannot be written: {error}");
                tracing::error!("{reason}");
                Ok(CommitOutcome::Refused(reason))
            }
            outcome => outcome,
        }
    }

    /// Writes an admission. Returns the submission if the launch needs it.
    fn admit(
        &mut self,
        number: u64,
        reads_submission: bool,
    ) -> Result<CommitOutcome, DatabaseError> {
        self.update_progress(number, |progress| {
            progress.is_admitted = true;
            progress.launch_attempts += 1;
        })?;
        if !reads_submission {
            return Ok(CommitOutcome::Committed);
        }
        let submission = self.submission(number)?;
        Ok(CommitOutcome::Admitted(submission.map(Box::new)))
    }

    /// Inserts an execution, unless its key is taken or its number or id is in use.
    pub(super) fn insert_submission(
        &mut self,
        submission: &Submission,
        digest: Option<RequestDigest>,
        is_admitted: bool,
    ) -> Result<CommitOutcome, DatabaseError> {
        if let Some(key) = &submission.request.key
            && let Some(taken) = self.find_key(&submission.submitter, key, digest)?
        {
            return Ok(taken);
        }
        let number = submission.number;
        let progress = StoredProgress {
            is_admitted,
            launch_attempts: u32::from(is_admitted),
            ..StoredProgress::default()
        };
        let body = checksum::encode(BlobKind::Submission, number, &(digest, submission))?;
        let progress = checksum::encode(BlobKind::Progress, number, &progress)?;
        self.insert_row(
            &ExecutionRow::from_submission(submission, digest),
            is_admitted,
            Some(progress),
        )?;
        let sql = "INSERT OR REPLACE INTO submission (number, body) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![signed(number), body])?;
        Ok(CommitOutcome::Committed)
    }

    fn find_key(
        &self,
        submitter: &User,
        key: &str,
        digest: Option<RequestDigest>,
    ) -> Result<Option<CommitOutcome>, DatabaseError> {
        let sql = "SELECT number, id, digest FROM execution \
                   WHERE submitter_uid = ?1 AND submitter_name = ?2 AND key = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![submitter.uid, columns::submitter_name(submitter), key];
        let found = statement.query_row(values, |row| {
            let id = ExecutionId::from_bytes(row.get(1)?);
            Ok((row.get(0)?, id, row.get::<_, Option<RequestDigest>>(2)?))
        });
        Ok(found
            .optional()?
            .map(|(number, id, earlier)| CommitOutcome::KeyTaken {
                id,
                number: unsigned(number),
                is_same_request: digest.is_some() && earlier == digest,
            }))
    }

    /// Inserts the row of an execution, as an unfinished one, and its labels.
    pub(super) fn insert_row(
        &mut self,
        row: &ExecutionRow<'_>,
        is_admitted: bool,
        progress: Option<Vec<u8>>,
    ) -> Result<(), DatabaseError> {
        let number = signed(row.number);
        let submitted_at = row.submitted_at.as_micros();
        let clock_high = self.state.clock_high.max(submitted_at);
        let sql = "INSERT INTO execution (number, id, tail, submitter_uid, submitter_name, user_uid, \
                   user_name, key, digest, name, command, submitted_at, clock_high, admitted, progress) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            row.id.into_bytes(),
            columns::id_tail(row.id),
            row.submitter.uid,
            columns::submitter_name(row.submitter),
            row.user.uid,
            row.user.name.as_deref(),
            row.key,
            row.digest,
            row.name,
            row.command,
            submitted_at,
            clock_high,
            is_admitted,
            progress,
        ])?;
        self.state.add_submission(row.number, submitted_at);
        let sql = "INSERT OR IGNORE INTO label (number, key, value) VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (key, value) in row.labels {
            statement.execute(params![number, key.as_str(), value.as_str()])?;
        }
        Ok(())
    }

    fn update_progress(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut StoredProgress),
    ) -> Result<(), DatabaseError> {
        let sql = "SELECT progress FROM execution WHERE number = ?1 AND ended = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found: Option<Vec<u8>> = statement
            .query_row([signed(number)], |row| row.get(0))
            .optional()?;
        let Some(blob) = found else {
            tracing::warn!("execution {number} is not in the store: a change to it is dropped");
            return Ok(());
        };
        // Damaged progress is replaced: the new change is worth more than what is lost already.
        let mut progress = checksum::decode(BlobKind::Progress, number, &blob).unwrap_or_else(
            |error: DatabaseError| {
                tracing::error!("{error}; the execution counts as admitted");
                StoredProgress {
                    is_admitted: true,
                    launch_attempts: 1,
                    ..StoredProgress::default()
                }
            },
        );
        change(&mut progress);
        self.write_progress(number, &progress)
    }

    /// Writes the progress of an execution: the blob for escherd, the columns for operators.
    pub(super) fn write_progress(
        &self,
        number: u64,
        progress: &StoredProgress,
    ) -> Result<(), DatabaseError> {
        let sql = "UPDATE execution SET progress = ?2, admitted = ?3, pid = ?4, started_at = ?5, \
                   cancelled_by = ?6 WHERE number = ?1";
        let cancel = progress.cancel.as_ref();
        self.connection.prepare_cached(sql)?.execute(params![
            signed(number),
            checksum::encode(BlobKind::Progress, number, progress)?,
            progress.is_admitted,
            progress.started.map(|(pid, _)| pid),
            progress.started.map(|(_, at)| at.as_micros()),
            cancel.map(|(canceller, _)| canceller.to_string()),
        ])?;
        Ok(())
    }

    /// Records that the log of `id` is to be deleted.
    pub(super) fn insert_undeleted_log(&self, id: ExecutionId) -> Result<(), DatabaseError> {
        let id = id.into_bytes();
        let checksum = checksum::checksum(BlobKind::UndeletedLog, 0, &id);
        let sql = "INSERT OR REPLACE INTO undeleted_log (id, checksum) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![id, checksum])?;
        Ok(())
    }

    fn delete_undeleted_log(&self, id: ExecutionId) -> Result<(), DatabaseError> {
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM undeleted_log WHERE id = ?1")?;
        statement.execute([id.into_bytes()])?;
        Ok(())
    }

    /// Stores `event`.
    pub(super) fn insert_event(&self, event: &Event) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO event (sequence, time, number, kind, body) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            signed(event.sequence),
            event.time.as_micros(),
            signed(event.number),
            event.kind.name(),
            checksum::encode(BlobKind::Event, event.sequence, event)?,
        ])?;
        Ok(())
    }

    /// Deletes an event, and stores that its user misses it.
    fn delete_event(&self, dropped: DroppedEvent) -> Result<(), DatabaseError> {
        let DroppedEvent { uid, sequence } = dropped;
        let sql = "DELETE FROM event WHERE sequence = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute([signed(sequence)])?;
        self.insert_missed_event(uid, sequence)
    }

    /// Stores the last event that a user misses.
    pub(super) fn insert_missed_event(&self, uid: u32, sequence: u64) -> Result<(), DatabaseError> {
        let body = checksum::encode(BlobKind::MissedEvent, uid.into(), &sequence)?;
        let sql = "INSERT OR REPLACE INTO missed_event (uid, body) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![uid, body])?;
        Ok(())
    }
}

/// The columns that the row of an execution has from the beginning.
pub(super) struct ExecutionRow<'a> {
    number: u64,
    id: ExecutionId,
    submitter: &'a User,
    user: &'a User,
    key: Option<&'a str>,
    digest: Option<RequestDigest>,
    name: Option<&'a str>,
    command: String,
    submitted_at: Timestamp,
    labels: &'a [(Text, Text)],
}

impl<'a> ExecutionRow<'a> {
    fn from_submission(submission: &'a Submission, digest: Option<RequestDigest>) -> Self {
        let request = &submission.request;
        ExecutionRow {
            number: submission.number,
            id: submission.id,
            submitter: &submission.submitter,
            user: &submission.account.user,
            key: request.key.as_deref(),
            digest,
            name: request.name.as_deref(),
            command: shown_command(&request.command),
            submitted_at: submission.submitted_at,
            labels: &request.labels,
        }
    }

    pub(super) fn from_record(record: &'a ExecutionRecord, digest: Option<RequestDigest>) -> Self {
        ExecutionRow {
            number: record.number,
            id: record.id,
            submitter: &record.submitted_by,
            user: &record.user,
            key: record.key.as_deref(),
            digest,
            name: record.name.as_deref(),
            command: shown_command(&record.command),
            submitted_at: record.submitted_at,
            labels: &record.labels,
        }
    }
}
