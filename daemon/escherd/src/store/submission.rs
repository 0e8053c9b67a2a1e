//! Reading what was accepted of an unfinished execution.

use escher_protocol::{Command, ExecutionId, ExecutionRecord};
use rusqlite::{Connection, OptionalExtension};

use super::RequestDigest;
use super::apply::StoreTransaction;
use super::checksum::{self, BlobKind};
use super::columns::signed;
use super::error::{DamageEvidence, DatabaseError};
use super::readers::Snapshot;
use super::stored_record;
use crate::execution::{Submission, kept_command, recorded_command};

/// The body of a row of the table `submission`.
pub(super) type SubmissionBody = (Option<RequestDigest>, Submission);

/// Decodes the body of the row `number`.
pub(super) fn decode(number: u64, body: &[u8]) -> Result<SubmissionBody, DatabaseError> {
    checksum::decode(BlobKind::Submission, number, body)
}

/// Reads a submission; `None` if there is none, as for a finished execution.
fn read(connection: &Connection, number: u64) -> Result<Option<Submission>, DatabaseError> {
    let mut statement =
        connection.prepare_cached("SELECT body FROM submission WHERE number = ?1")?;
    let body = statement.query_row([signed(number)], |row| row.get::<_, Vec<u8>>(0));
    let Some(body) = body.optional()? else {
        return Ok(None);
    };
    Ok(Some(decode(number, &body)?.1))
}

/// Reads the command of the execution `id` as its record has it, and whether that is cut; `None` if there is no such
/// execution.
pub(super) fn command(
    snapshot: &Snapshot<'_>,
    number: u64,
    id: ExecutionId,
) -> Result<Option<(Command, bool)>, DatabaseError> {
    // One snapshot has either: the end of an execution replaces its submission by its record.
    if let Some(submission) = read(&snapshot.connection, number)? {
        let command = recorded_command(&submission.request.command);
        return Ok((submission.id == id).then_some((command, false)));
    }
    let record = stored_record::read(snapshot, number)?;
    Ok(record
        .filter(|record| record.id == id)
        .map(|record| (record.command, record.command_cut)))
}

impl StoreTransaction<'_> {
    /// Reads the submission of an unfinished execution; `None`, after a line in the log, if it is damaged.
    ///
    /// # Errors
    /// When the database cannot be read for a reason other than damage.
    pub(super) fn submission(&self, number: u64) -> Result<Option<Submission>, DatabaseError> {
        let damage = match read(self.connection, number) {
            Ok(Some(submission)) => return Ok(Some(submission)),
            Ok(None) => BlobKind::Submission.damaged(number),
            Err(error) if error.evidence() == DamageEvidence::None => return Err(error),
            Err(error) => error,
        };
        tracing::error!("the request of execution {number} cannot be read: {damage}");
        Ok(None)
    }

    /// Returns `record` with as much of its command as records keep, or as it is if the submission is damaged.
    pub(super) fn completed(
        &self,
        record: &ExecutionRecord,
    ) -> Result<ExecutionRecord, DatabaseError> {
        let mut completed = record.clone();
        if let Some(submission) = self.submission(record.number)? {
            (completed.command, completed.command_cut) = kept_command(&submission.request.command);
        }
        Ok(completed)
    }
}
