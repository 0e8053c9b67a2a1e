//! Executions: submission, lists, records and removal.

use std::io;
use std::time::Duration;

use escher_protocol::json::{self, ExecutionObject};
use escher_protocol::message::{Condition, ListFilter, Property, Selection};
use escher_protocol::{
    ExecutionRecord, ExecutionRequest, Request, Response as Answer, Status, Target, Text,
};
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::call::{Call, Reply, wrong_answer};
use super::media::JSON;
use super::problem::Problem;
use super::query::Query;
use super::streaming::{Parts, produced};
use crate::api::Executions;
use crate::server::connection::over_memory_limit;
use crate::server::memory::{Charge, UserMemory};
use crate::server::outbox::STREAM_BYTES;
use crate::server::requests::{ANSWER_BYTES, memory_of, single_reply};

/// Longest time for which a request for a record may wait.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Records in one page of a list, unless the request says otherwise, and at most.
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// Runs a command.
pub(super) async fn submit(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let mut object: json::Submission = call.object()?;
    if let Some(key) = call.headers.get("Idempotency-Key") {
        let field = "Idempotency-Key";
        let key = key.to_str().ok();
        let key = key.ok_or_else(|| Problem::invalid(field, "the key is not ASCII"))?;
        if object.key().is_some_and(|other| other != key) {
            let message = "the header Idempotency-Key and the field key differ";
            return Err(Problem::invalid(field, message));
        }
        object.set_key(key);
    }
    let wait = preferred_wait(&call.headers);
    let request = Request::Submit(Box::new(ExecutionRequest::from(object)));
    if !call.charge.try_resize(memory_of(&request, call.body.len())) {
        return Err(over_memory_limit().into());
    }
    call.body = Vec::new();
    let answer = single_reply(request, &call.engine, &call.context).await;
    let Answer::Submitted(submitted) = answer? else {
        return Err(wrong_answer());
    };
    let target = submitted.id.into();
    let record = match wait {
        Some(wait) => record_within(&mut call, target, wait).await?,
        None => record_now(&mut call, target).await?,
    };
    let object = json::line(&ExecutionObject::from_submission(
        &record,
        submitted.existing,
    ));
    let status = if submitted.existing {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let mut response = call.answer_with(status, object);
    let location = format!("/v1/executions/{}", submitted.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Returns the wait that `Prefer: wait=<seconds>` asks for (RFC 7240).
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("Prefer").into_iter();
    let mut preferences = values.flat_map(|value| value.to_str().unwrap_or("").split([',', ';']));
    let seconds = preferences.find_map(|preference| preference.trim().strip_prefix("wait="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Returns a record; with the parameter `wait` once the execution is finished, or that long has passed.
pub(super) async fn get(mut call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["wait", "user"])?;
    let target = call.target(reference, &query)?;
    let record = match query.number("wait")? {
        Some(seconds) => record_within(&mut call, target, Duration::from_secs(seconds)).await?,
        None => record_now(&mut call, target).await?,
    };
    Ok(call.answer(json::line(&ExecutionObject::from_record(&record))))
}

async fn record_now(call: &mut Call, target: Target) -> Result<ExecutionRecord, Box<Problem>> {
    match call.ask(Request::Status(target)).await? {
        Answer::Execution(record) => Ok(*record),
        _ => Err(wrong_answer()),
    }
}

async fn record_within(
    call: &mut Call,
    target: Target,
    wait: Duration,
) -> Result<ExecutionRecord, Box<Problem>> {
    let deadline = Instant::now() + wait.min(MAX_WAIT);
    let finished = call.engine.wait_for_completion(target.clone());
    match timeout_at(deadline, finished).await {
        Ok(Ok(record)) if call.charge.try_resize(ANSWER_BYTES) => Ok(record),
        Ok(Err(error)) => Err(error.into()),
        // Over, or without room for the record: it is read again once there is.
        Ok(Ok(_)) | Err(_) => record_now(call, target).await,
    }
}

/// The parameters of a list.
const FILTERS: [&str; 10] = [
    "status", "label", "name", "user", "filter", "since", "until", "all", "limit", "cursor",
];

/// Lists executions, newest first, as one page and the cursor of the next.
pub(super) async fn list(mut call: Call) -> Reply {
    let query = call.parameters(&FILTERS)?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid(
            "limit",
            format!("limit is 1 to {MAX_PAGE}"),
        ));
    }
    let cursor = query.number::<u64>("cursor")?;
    let mut selection = selection(&query)?;
    // One more, to know whether there are any.
    selection.filter.limit = limit + 1;
    let mut executions = call.engine.list_executions(selection);
    if let Some(cursor) = cursor {
        executions = executions.below(cursor);
    }
    call.charge = call.memory.charge(STREAM_BYTES).await;
    let first = executions.next().await.transpose()?;
    let page = Page {
        executions,
        first,
        limit,
        memory: call.memory,
        charge: call.charge,
    };
    let body = produced(|parts| page.send(parts));
    let mut response = Response::new(body);
    let media_type = HeaderValue::from_static(JSON);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

/// A page of a list.
struct Page {
    executions: Executions,
    first: Option<ExecutionRecord>,
    limit: u32,
    memory: UserMemory,
    charge: Charge,
}

impl Page {
    /// Sends the page, record by record.
    async fn send(mut self, parts: Parts) -> io::Result<()> {
        let mut text = String::from("{\"items\":[");
        let (mut next, mut last, mut count) = (self.first, None, 0);
        let cursor = loop {
            let Some(record) = next else { break None };
            if count == self.limit {
                break last;
            }
            if count > 0 {
                text.push(',');
            }
            count += 1;
            last = Some(record.number);
            text += json::line(&ExecutionObject::from_record(&record)).trim_end();
            parts
                .send(std::mem::take(&mut text), &mut self.charge)
                .await;
            if self.executions.must_read() {
                self.charge = self.memory.nothing();
                self.charge = self.memory.charge(STREAM_BYTES).await;
            }
            let read = self.executions.next().await.transpose();
            next = read.map_err(io::Error::other)?;
        };
        let cursor = cursor.map_or("null".to_owned(), |number| number.to_string());
        text += &format!("],\"next\":{cursor}}}\n");
        parts.send(text, &mut self.charge).await;
        Ok(())
    }
}

fn selection(query: &Query) -> Result<Selection, Box<Problem>> {
    let mut conditions = Vec::new();
    for name in query.all("status") {
        conditions.push(Condition::is(Property::Status(status(name)?)));
    }
    for text in query.all("label") {
        let (key, value) = label(text)?;
        conditions.push(Condition::is(Property::Label(key, value)));
    }
    for name in query.all("name") {
        conditions.push(Condition::is(Property::Name(name.into())));
    }
    for name in query.all("user") {
        conditions.push(Condition::is(Property::User(name.into())));
    }
    for text in query.all("filter") {
        let condition = text.parse::<Condition>();
        conditions.push(condition.map_err(|error| Problem::invalid("filter", error.to_string()))?);
    }
    Ok(Selection {
        filter: ListFilter {
            all: query.flag("all")?,
            conditions,
            limit: 0,
        },
        since: query.time("since")?,
        until: query.time("until")?,
    })
}

fn status(name: &str) -> Result<Status, Box<Problem>> {
    Status::from_name(name).ok_or_else(|| {
        let names = Status::TABLE.map(|row| row.1).join(", ");
        Problem::invalid("status", format!("status is one of {names}"))
    })
}

fn label(text: &str) -> Result<(Text, Text), Box<Problem>> {
    let invalid = || Problem::invalid("label", "label is KEY=VALUE");
    let (key, value) = text.split_once('=').ok_or_else(invalid)?;
    Ok((key.into(), value.into()))
}

/// Removes a finished execution.
pub(super) async fn remove(mut call: Call, reference: &str) -> Reply {
    let query = call.parameters(&["user"])?;
    let target = call.target(reference, &query)?;
    let Answer::Removed(removed) = call.ask(Request::Remove(target)).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer(json::removed(reference, removed)))
}

/// Removes all finished executions that match the parameters, or says how many these are.
pub(super) async fn prune(mut call: Call) -> Reply {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Prune {
        #[serde(default = "yes")]
        dry_run: bool,
    }
    fn yes() -> bool {
        true
    }
    let parameters = [
        "status", "label", "name", "user", "filter", "since", "until",
    ];
    let query = call.parameters(&parameters)?;
    let object: Prune = call.object()?;
    let request = Request::Prune {
        selection: selection(&query)?,
        dry_run: object.dry_run,
    };
    let Answer::Removed(removed) = call.ask(request).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer(json::pruned(removed)))
}
