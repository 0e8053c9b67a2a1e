//! Reads the result of an execution from its stream.

use std::future::poll_fn;
use std::sync::Arc;

use escher_protocol::{
    ExecutionRecord, ExecutionResult, Item, Omission, OutputChunk, OutputGap, Request, Target,
};

use crate::error::Error;
use crate::reconnecting_transport::{OpenStream, ReconnectingTransport};
use crate::response::{ensure_understood, item_type};

/// An item of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultItem {
    /// The next bytes of a stream.
    Output(OutputChunk),
    /// Output of a stream is left out here.
    Omitted(Omission),
    /// The log lacks output.
    Gap(OutputGap),
}

/// The result of an execution, item by item: all of stdout before all of stderr, then what the log lacks. So it takes no
/// more memory than a window of items, however much output it has.
///
/// When the connection is lost, the stream reconnects while it is read, and continues where it stopped.
#[must_use = "a stream does nothing unless it is read"]
pub struct ResultStream {
    transport: Arc<ReconnectingTransport>,
    request: Request,
    stream: OpenStream,
    record: ExecutionRecord,
    /// What was returned.
    passed: Progress,
    /// What comes again, since the connection was lost.
    repeated: Progress,
}

/// How much of a result has been read. It is the same each time it is read, in pieces of whatever length.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    bytes: u64,
    omissions: usize,
    gaps: usize,
}

impl ResultStream {
    /// Requests the result of `target`, and returns it once its record has arrived.
    pub(crate) async fn open(
        transport: &Arc<ReconnectingTransport>,
        target: Target,
    ) -> Result<Self, Error> {
        let request = Request::Result(target);
        let mut stream = transport.open_stream(request.clone()).await?;
        let record = receive_record(transport, &request, &mut stream).await?;
        Ok(ResultStream {
            transport: Arc::clone(transport),
            request,
            stream,
            record,
            passed: Progress::default(),
            repeated: Progress::default(),
        })
    }

    /// Returns the record.
    #[must_use]
    pub fn record(&self) -> &ExecutionRecord {
        &self.record
    }

    /// Waits for the next item. Returns `None` at the end.
    ///
    /// # Errors
    /// The same as [`Client::get_result`](crate::Client::get_result).
    pub async fn next(&mut self) -> Result<Option<ResultItem>, Error> {
        loop {
            let item = match poll_fn(|cx| self.stream.items.poll_next(cx)).await {
                None => return Ok(None),
                Some(Ok(item)) => item,
                Some(Err(error)) if error.is_connection_loss() => {
                    self.resume(error).await?;
                    continue;
                }
                Some(Err(error)) => return Err(error),
            };
            let item = match item {
                Item::Output(chunk) => self.pass_output(chunk).map(ResultItem::Output),
                Item::Omitted(omission) => {
                    let is_new = pass(&mut self.repeated.omissions, &mut self.passed.omissions);
                    is_new.then_some(ResultItem::Omitted(omission))
                }
                Item::Gap(gap) => {
                    let is_new = pass(&mut self.repeated.gaps, &mut self.passed.gaps);
                    is_new.then_some(ResultItem::Gap(gap))
                }
                other => return Err(Error::unexpected_response("a result", item_type(&other))),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Reads all of it.
    pub(crate) async fn collect(mut self) -> Result<ExecutionResult, Error> {
        let mut result = ExecutionResult::new(self.record.clone());
        while let Some(item) = self.next().await? {
            match item {
                ResultItem::Output(chunk) => result.push(&chunk),
                ResultItem::Omitted(omission) => result.omit(omission),
                ResultItem::Gap(gap) => result.gaps.push(gap),
            }
        }
        Ok(result)
    }

    /// Requests the result again after the connection was lost because of `error`.
    async fn resume(&mut self, error: Error) -> Result<(), Error> {
        let lost = Arc::clone(&self.stream.connection);
        self.stream = self
            .transport
            .resume_stream(&lost, error, self.request.clone())
            .await?;
        receive_record(&self.transport, &self.request, &mut self.stream).await?;
        self.repeated = self.passed;
        Ok(())
    }

    /// Returns the part of `chunk` that has not been returned; `None` if all of it has.
    fn pass_output(&mut self, mut chunk: OutputChunk) -> Option<OutputChunk> {
        let length = chunk.data.len() as u64;
        let known = self.repeated.bytes.min(length);
        self.repeated.bytes -= known;
        self.passed.bytes += length - known;
        if known > 0 {
            let rest = chunk.data.get(usize::try_from(known).ok()?..)?;
            chunk.data = rest.into();
            chunk.offset += known;
        }
        (known < length).then_some(chunk)
    }
}

/// Counts one item. Returns whether it is new.
fn pass(repeated: &mut usize, passed: &mut usize) -> bool {
    if *repeated > 0 {
        *repeated -= 1;
        return false;
    }
    *passed += 1;
    true
}

/// Returns the record, which is the first item. If the connection is lost before, `stream` is replaced.
async fn receive_record(
    transport: &Arc<ReconnectingTransport>,
    request: &Request,
    stream: &mut OpenStream,
) -> Result<ExecutionRecord, Error> {
    loop {
        let items = &mut stream.items;
        match poll_fn(|cx| items.poll_next(cx)).await {
            Some(Ok(Item::Execution(record))) => return ensure_understood(*record),
            Some(Ok(other)) => {
                return Err(Error::unexpected_response("a result", item_type(&other)));
            }
            Some(Err(error)) if error.is_connection_loss() => {
                let lost = Arc::clone(&stream.connection);
                *stream = transport
                    .resume_stream(&lost, error, request.clone())
                    .await?;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(Error::unexpected_response("a result", "nothing")),
        }
    }
}
