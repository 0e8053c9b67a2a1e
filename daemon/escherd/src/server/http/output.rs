//! The output of executions: its bytes, or chunks with their streams and times.

use std::io;

use escher_protocol::json;
use escher_protocol::output::{OutputRange, OutputStart};
use escher_protocol::{OutputItem, OutputStream, StreamSelection};
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, TRAILER,
};
use hyper::{Response, StatusCode};
use tokio::time::timeout;

use super::call::{Call, Reply};
use super::feed::{self, Feed, HEARTBEAT};
use super::media::{ByteRange, EVENTS, LINES, OCTETS, byte_range, negotiate};
use super::problem::Problem;
use super::query::Query;
use super::streaming::produced;
use crate::api::OutputItems;
use crate::server::outbox::STREAM_BYTES;

/// Where the bytes of an answer begin in the log.
const OFFSET: &str = "escher-offset";

/// How many bytes are missing between those of an answer, because they were never written to the log.
const DROPPED: &str = "escher-dropped-bytes";

pub(super) async fn output(call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["stream", "offset", "tail", "follow", "user"])?;
    let target = call.target(reference, &query)?;
    let media = negotiate(&call.headers, &[OCTETS, EVENTS, LINES])?;
    let streams = streams(&query)?;
    let follow = query.flag("follow")?;
    let bytes = byte_range(&call.headers)
        .filter(|_| media == OCTETS && streams == StreamSelection::Both && !follow);
    let resumed = match media {
        EVENTS => feed::last_event_id(&call.headers)?,
        _ => None,
    };
    let range = OutputRange {
        streams,
        start: start(&query, bytes, resumed)?,
        length: bytes.and_then(|range| Some((range.last? - range.first).saturating_add(1))),
        ..OutputRange::default()
    };
    let output = call.engine.read_output(target, range, follow).await?;
    if media == OCTETS {
        return Ok(octets(call, output, bytes, streams));
    }
    let memory = call.memory;
    let body = produced(|parts| async move {
        let mut feed = Feed::new(parts, media, memory);
        send_chunks(output, &mut feed).await;
        Ok(())
    });
    Ok(feed::response(body, media))
}

fn streams(query: &Query) -> Result<StreamSelection, Box<Problem>> {
    match query.get("stream")? {
        None | Some("both") => Ok(StreamSelection::Both),
        Some("stdout") => Ok(StreamSelection::Only(OutputStream::Stdout)),
        Some("stderr") => Ok(StreamSelection::Only(OutputStream::Stderr)),
        Some(_) => {
            let message = "stream is both, stdout or stderr";
            Err(Problem::invalid("stream", message))
        }
    }
}

fn start(
    query: &Query,
    bytes: Option<ByteRange>,
    resumed: Option<u64>,
) -> Result<OutputStart, Box<Problem>> {
    let (offset, tail) = (query.number("offset")?, query.number("tail")?);
    if offset.is_some() && tail.is_some() {
        let message = "offset and tail both say where to begin";
        return Err(Problem::invalid("tail", message));
    }
    // What a client sends because it goes on is later than its address.
    let offset = resumed.or(bytes.map(|range| range.first)).or(offset);
    Ok(match (offset, tail) {
        (None, Some(lines)) => OutputStart::LastLines(lines),
        (offset, _) => OutputStart::Offset(offset.unwrap_or(0)),
    })
}

/// Answers with the bytes alone. They are those of the log from `escher-offset` on, without a hole where
/// both streams are asked for: at a hole the body breaks off, so that the client notices.
fn octets(
    call: Call,
    mut output: OutputItems,
    bytes: Option<ByteRange>,
    streams: StreamSelection,
) -> Response<super::streaming::Body> {
    let (first, end, total) = (output.offset(), output.end(), output.total());
    let memory = call.memory;
    let body = produced(move |parts| async move {
        let (mut expected, mut dropped) = (first, 0);
        let mut charge = memory.nothing();
        loop {
            output
                .wait_until_readable()
                .await
                .map_err(io::Error::other)?;
            if output.must_read() {
                drop(std::mem::replace(&mut charge, memory.nothing()));
                charge = memory.charge(STREAM_BYTES).await;
            }
            match output.next().await.transpose().map_err(io::Error::other)? {
                Some(OutputItem::Chunk(chunk)) => {
                    if streams == StreamSelection::Both && chunk.offset != expected {
                        let message = "output between these bytes was deleted";
                        return Err(io::Error::other(message));
                    }
                    expected = chunk.offset + chunk.data.len() as u64;
                    parts.send(chunk.data.into_vec(), &mut charge).await;
                }
                Some(OutputItem::Gap(gap)) if gap.end() == gap.offset => {
                    dropped += gap.bytes.unwrap_or(0);
                }
                Some(OutputItem::Gap(_)) => {}
                None => break,
            }
        }
        parts.send_trailer(DROPPED, dropped).await;
        Ok(())
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(TRAILER, HeaderValue::from_static(DROPPED));
    headers.insert(OFFSET, HeaderValue::from(first));
    if streams == StreamSelection::Both {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let Some(end) = end.filter(|_| bytes.is_some()) else {
        return response;
    };
    let total = total.map_or("*".to_owned(), |total| total.to_string());
    let (status, range) = if first < end {
        let range = format!("bytes {first}-{}/{total}", end - 1);
        (StatusCode::PARTIAL_CONTENT, range)
    } else {
        *response.body_mut() = super::streaming::full("");
        (
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("bytes */{total}"),
        )
    };
    *response.status_mut() = status;
    if let Ok(range) = HeaderValue::try_from(range) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// Sends chunks and gaps, and then the end or an error.
async fn send_chunks(mut output: OutputItems, feed: &mut Feed) {
    feed.begin().await;
    let (id, mut position) = (output.id(), output.offset());
    loop {
        feed.rest();
        match timeout(HEARTBEAT, output.wait_until_readable()).await {
            Err(_) => {
                feed.heartbeat().await;
                continue;
            }
            Ok(Err(error)) => return feed.fail(position, &error).await,
            Ok(Ok(())) => {}
        }
        feed.make_room().await;
        loop {
            let (name, object) = match output.next().await {
                Some(Ok(OutputItem::Chunk(chunk))) => {
                    position = chunk.offset + chunk.data.len() as u64;
                    (chunk.stream.name(), json::output_chunk(id, chunk))
                }
                Some(Ok(OutputItem::Gap(gap))) => {
                    position = gap.end();
                    ("gap", json::output_gap(id, &gap))
                }
                Some(Err(error)) => return feed.fail(position, &error).await,
                None => {
                    let object = json::output_end(position);
                    return feed.send("end", position, object).await;
                }
            };
            feed.send(name, position, object).await;
            if output.must_read() {
                break;
            }
        }
    }
}
