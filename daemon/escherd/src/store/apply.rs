//! Changes to rows, inside a transaction of the writer's.

use escher_protocol::message::Event;
use escher_protocol::{ExecutionId, ExecutionRecord, Text, Timestamp, User};
use rusqlite::{Connection, OptionalExtension, params};

use super::checksum::{self, Kind};
use super::columns::{self, Progress, signed, unsigned};
use super::error::DatabaseError;
use super::totals::WriterState;
use super::{Change, ChangeEntry, CommitOutcome, RequestDigest};
use crate::execution::{Submission, shown_command};

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    /// The connection, in the transaction.
    pub(super) connection: &'a Connection,
    /// Goes with the transaction: thrown away if that fails.
    pub(super) state: &'a mut WriterState,
}

impl Changes<'_> {
    /// Writes `entry` with its event.
    ///
    /// # Errors
    /// The whole transaction has to be rolled back then.
    pub(super) fn apply(&mut self, entry: &ChangeEntry) -> Result<CommitOutcome, DatabaseError> {
        let outcome = match &entry.change {
            Change::Submitted {
                submission,
                digest,
                launching,
            } => match self.submitted(submission, *digest, *launching) {
                // The row is its first statement, so nothing of it was written.
                Err(fault) if fault.is_about_the_row() => {
                    let number = submission.number;
                    let reason = format!("execution {number} cannot be written: {fault}");
                    tracing::error!("{reason}");
                    CommitOutcome::Refused(reason)
                }
                outcome => outcome?,
            },
            Change::Removed { numbers } => self.all_removed(numbers)?,
            other => {
                self.happened(other)?;
                CommitOutcome::Committed
            }
        };
        if outcome == CommitOutcome::Committed {
            for event in &entry.events {
                self.event(event)?;
            }
        }
        Ok(outcome)
    }

    fn happened(&mut self, change: &Change) -> Result<(), DatabaseError> {
        match change {
            Change::Submitted { .. } | Change::Removed { .. } => Ok(()),
            Change::Launching { number } => {
                self.progress(*number, |progress| progress.launching = true)
            }
            Change::Started { number, pid, at } => self.progress(*number, |progress| {
                progress.launching = true;
                progress.started = Some((*pid, *at));
            }),
            Change::CancelRequested {
                number,
                canceller,
                kill,
            } => {
                self.progress(*number, |progress| match &mut progress.cancel {
                    // The first who asked is the one; a later one can only make it harsher.
                    Some((_, harsh)) => *harsh |= kill,
                    none => *none = Some((canceller.clone(), *kill)),
                })
            }
            Change::Finished { record, resources } => self.finished(record, resources),
            Change::LogsDeleted { ids } => ids.iter().try_for_each(|id| self.log_deleted(*id)),
        }
    }

    /// Takes an execution on, unless its key is taken or a row is in its place.
    pub(super) fn submitted(
        &mut self,
        submission: &Submission,
        digest: Option<RequestDigest>,
        launching: bool,
    ) -> Result<CommitOutcome, DatabaseError> {
        if let Some(key) = &submission.request.key
            && let Some(taken) = self.key_taken(submission.submitter.uid, key, digest)?
        {
            return Ok(taken);
        }
        let number = submission.number;
        let progress = Progress {
            launching,
            ..Progress::default()
        };
        let body = (digest, submission, submission.limits);
        let body = checksum::wrap(Kind::Submission, number, &body)?;
        let progress = checksum::wrap(Kind::Progress, number, &progress)?;
        self.insert(
            &Row::of_submission(submission, digest),
            launching,
            Some(progress),
        )?;
        let sql = "INSERT OR REPLACE INTO submission (number, body) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![signed(number), body])?;
        Ok(CommitOutcome::Committed)
    }

    fn key_taken(
        &self,
        uid: u32,
        key: &str,
        digest: Option<RequestDigest>,
    ) -> Result<Option<CommitOutcome>, DatabaseError> {
        let sql = "SELECT number, id, digest FROM execution WHERE submitter_uid = ?1 AND key = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![uid, key], |row| {
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

    /// The row of an execution that is not finished, and its labels.
    pub(super) fn insert(
        &mut self,
        row: &Row<'_>,
        launching: bool,
        progress: Option<Vec<u8>>,
    ) -> Result<(), DatabaseError> {
        let number = signed(row.number);
        let submitted_at = row.submitted_at.as_micros();
        let clock_high = self.state.clock_high.max(submitted_at);
        let sql = "INSERT INTO execution (number, id, tail, submitter_uid, submitter_name, user_uid, \
                   user_name, key, digest, name, command, submitted_at, clock_high, launching, progress) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
        self.connection.prepare_cached(sql)?.execute(params![
            number,
            row.id.into_bytes(),
            columns::tail(row.id),
            row.submitter.uid,
            row.submitter.name.as_deref(),
            row.user.uid,
            row.user.name.as_deref(),
            row.key,
            row.digest,
            row.name,
            row.command,
            submitted_at,
            clock_high,
            launching,
            progress,
        ])?;
        self.state.submitted(row.number, submitted_at);
        let sql = "INSERT OR IGNORE INTO label (number, key, value) VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (key, value) in row.labels {
            statement.execute(params![number, key.as_str(), value.as_str()])?;
        }
        Ok(())
    }

    fn progress(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut Progress),
    ) -> Result<(), DatabaseError> {
        let sql = "SELECT progress FROM execution WHERE number = ?1 AND ended = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found: Option<Vec<u8>> = statement
            .query_row([signed(number)], |row| row.get(0))
            .optional()?;
        let Some(blob) = found else {
            tracing::warn!(
                "execution {number} is not in the store, so a change to it is not either"
            );
            return Ok(());
        };
        // One that is damaged is replaced: what happens now is worth more than what is lost already.
        let mut progress =
            checksum::unwrap(Kind::Progress, number, &blob).unwrap_or_else(|fault| {
                tracing::error!("{fault}; it is taken to have been handed to a shim");
                Progress {
                    launching: true,
                    ..Progress::default()
                }
            });
        change(&mut progress);
        self.write_progress(number, &progress)
    }

    /// How far an execution has come, for escherd and, in columns, for operators.
    pub(super) fn write_progress(
        &self,
        number: u64,
        progress: &Progress,
    ) -> Result<(), DatabaseError> {
        let sql = "UPDATE execution SET progress = ?2, launching = ?3, pid = ?4, started_at = ?5, \
                   cancelled_by = ?6 WHERE number = ?1";
        let cancel = progress.cancel.as_ref();
        self.connection.prepare_cached(sql)?.execute(params![
            signed(number),
            checksum::wrap(Kind::Progress, number, progress)?,
            progress.launching,
            progress.started.map(|(pid, _)| pid),
            progress.started.map(|(_, at)| at.as_micros()),
            cancel.map(|(by, _)| by.to_string()),
        ])?;
        Ok(())
    }

    /// Notes that the log of `id` is to be deleted.
    pub(super) fn log_undeleted(&self, id: ExecutionId) -> Result<(), DatabaseError> {
        let id = id.into_bytes();
        let sql = "INSERT OR REPLACE INTO undeleted_log (id, checksum) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![id, checksum::seal(Kind::Undeleted, 0, &id)])?;
        Ok(())
    }

    fn log_deleted(&self, id: ExecutionId) -> Result<(), DatabaseError> {
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM undeleted_log WHERE id = ?1")?;
        statement.execute([id.into_bytes()])?;
        Ok(())
    }

    /// Keeps `event`.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO event (sequence, time, number, kind, body) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            signed(event.sequence),
            event.time.as_micros(),
            signed(event.number),
            event.kind.name(),
            checksum::wrap(Kind::Event, event.sequence, event)?,
        ])?;
        let state = &mut self.state;
        state.newest_event = state.newest_event.max(event.sequence);
        if state.oldest_event == 0 {
            state.oldest_event = event.sequence;
        }
        Ok(())
    }
}

/// What the row of an execution has from its beginning on.
pub(super) struct Row<'a> {
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

impl<'a> Row<'a> {
    fn of_submission(submission: &'a Submission, digest: Option<RequestDigest>) -> Self {
        let request = &submission.request;
        Row {
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

    pub(super) fn of_record(record: &'a ExecutionRecord, digest: Option<RequestDigest>) -> Self {
        Row {
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
