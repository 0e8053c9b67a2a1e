//! What commands have written.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use escher_protocol::message::{Item, OutputRequest};
use escher_protocol::{
    ApiError, Blob, ErrorCode, ExecutionRecord, OutputChunk, OutputStream, Status, StreamSelection,
    Target,
};
use tokio::sync::{SemaphorePermit, watch};

use super::place::Place;
use super::{Broken, Call, stopping};
use crate::engine::{Engine, Progress};
use crate::output::{OutputReader, truncation_marker};
use crate::server::outbox::Items;

impl Call<'_> {
    /// The record of a finished execution, then its output, each stream up to the limit and a mark where
    /// it was cut.
    pub(super) async fn result(&self, target: Target, items: &Items<'_>) -> Result<(), Broken> {
        let record = self.wait(target).await?;
        let Some(output) = record.outcome.as_ref().map(|outcome| outcome.output) else {
            return Ok(items.send(Item::Execution(Box::new(record))).await?);
        };
        let _places = self.reserve_logs(2)?;
        let mut readers = Vec::new();
        for (stream, total) in [
            (OutputStream::Stdout, output.stdout_bytes),
            (OutputStream::Stderr, output.stderr_bytes),
        ] {
            // Nobody has counted what a lost execution has written.
            if total > 0 || record.status == Status::Lost {
                let selection = StreamSelection::Only(stream);
                let mut reader = OutputReader::new(path(&record.log_path), selection);
                let length = reader.open().await?;
                let log_bytes = match record.status {
                    Status::Lost => length,
                    _ => output.log_bytes,
                };
                readers.push((reader, log_bytes));
            }
        }
        items.send(Item::Execution(Box::new(record))).await?;
        for (reader, log_bytes) in readers {
            self.result_stream(reader, log_bytes, items).await?;
        }
        Ok(())
    }

    async fn result_stream(
        &self,
        mut reader: OutputReader,
        log_bytes: u64,
        items: &Items<'_>,
    ) -> Result<(), Broken> {
        let limit = self.service.about.max_output_size_bytes;
        let mut left = limit;
        while reader.offset() < log_bytes {
            items.ready().await;
            for mut chunk in reader.read(log_bytes).await?.chunks {
                let length = chunk.data.len() as u64;
                if length > left {
                    let kept = usize::try_from(left).unwrap_or(usize::MAX);
                    let mut data = chunk.data.into_vec();
                    data.truncate(kept);
                    let marker = OutputChunk {
                        offset: chunk.offset + left,
                        data: truncation_marker(limit).as_str().into(),
                        ..chunk
                    };
                    chunk.data = data.into();
                    items.send(Item::Output(chunk)).await?;
                    return Ok(items.send(Item::Output(marker)).await?);
                }
                left -= length;
                items.send(Item::Output(chunk)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn read_output(
        &self,
        request: OutputRequest,
        items: &Items<'_>,
    ) -> Result<(), Broken> {
        let OutputRequest {
            target,
            streams,
            start,
            length,
            follow,
        } = request;
        let (record, mut progress) = self.follow(target).await?;
        let _place = self.reserve_logs(1)?;
        let id = record.id;
        let mut reader = OutputReader::new(path(&record.log_path), streams);
        let there = reader.open().await?;
        let mut known = *progress.borrow_and_update();
        if !known.finished || known.log_bytes == u64::MAX {
            // Nobody has said how long the log is: it is as long as it is.
            known.log_bytes = there;
        }
        reader.seek(start, known.log_bytes).await?;
        let stop = length.map_or(u64::MAX, |length| reader.offset().saturating_add(length));
        loop {
            while reader.offset() < known.log_bytes.min(stop) {
                items.ready().await;
                for chunk in reader.read(known.log_bytes.min(stop)).await?.chunks {
                    items.send(Item::Output(chunk)).await?;
                }
            }
            if !follow || known.finished || reader.offset() >= stop {
                return Ok(());
            }
            let seen = known.log_bytes;
            let want = move |engine: &mut Engine| engine.want_output(id, seen);
            self.service.engine.tell(want).await?;
            let news = |now: &Progress| now.finished || now.log_bytes > seen;
            known = *progress.wait_for(news).await.map_err(stopping)?;
            if known.log_bytes == u64::MAX {
                known.log_bytes = reader.length().await?;
            }
        }
    }

    /// The record of an execution, and how far its output is from now on.
    async fn follow(
        &self,
        target: Target,
    ) -> Result<(ExecutionRecord, watch::Receiver<Progress>), ApiError> {
        match self
            .at(target, |engine, number| engine.follow(number))
            .await?
        {
            Place::Engine(Some(followed)) => Ok(followed),
            Place::Engine(None) => Err(stopping(())),
            Place::Store(record) => {
                let progress = Progress::of_finished(&record);
                Ok((*record, watch::Sender::new(progress).subscribe()))
            }
        }
    }

    /// Leave to have so many logs open. Each takes descriptors.
    fn reserve_logs(&self, count: u32) -> Result<SemaphorePermit<'_>, ApiError> {
        self.service.open_logs.try_acquire_many(count).map_err(|_| {
            let message = "as many logs are being read as escherd has descriptors for";
            ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
        })
    }
}

fn path(bytes: &Blob) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}
