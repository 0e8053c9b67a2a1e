//! One request, with what it takes, and the answers that handlers make.

use std::sync::Arc;

use escher_protocol::{ApiError, ErrorCode, Request, Response as Answer, Target};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::media::JSON;
use super::problem::Problem;
use super::query::{Query, unknown_name};
use super::streaming::{Body, charged};
use crate::api::ExecutionEngine;
use crate::server::ServerContext;
use crate::server::connection::{FRAME_TIMEOUT, over_memory_limit};
use crate::server::memory::{Charge, UserMemory};
use crate::server::requests;

/// Bytes of a body that need no room of their own: the memory of a request includes them.
const SMALL_BODY_BYTES: usize = 4096;

/// The answer to a request, or why there is none.
pub(super) type Reply = Result<Response<Body>, Box<Problem>>;

/// A request whose body has arrived.
pub(super) struct Call {
    /// The engine with the client's authority.
    pub(super) engine: ExecutionEngine,
    pub(super) context: Arc<ServerContext>,
    pub(super) memory: UserMemory,
    pub(super) headers: HeaderMap,
    pub(super) query: Option<String>,
    pub(super) body: Vec<u8>,
    /// The memory of the request, and then of its answer.
    pub(super) charge: Charge,
}

impl Call {
    /// Parses the parameters, of which `known` are allowed.
    pub(super) fn parameters(&self, known: &[&str]) -> Result<Query, Box<Problem>> {
        Query::parse(self.query.as_deref(), known)
    }

    /// Parses the body as a JSON object. Without a body all fields have their defaults.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, Box<Problem>> {
        let is_empty = self.body.is_empty();
        let media_type = self.headers.get(CONTENT_TYPE);
        let is_json = media_type.is_some_and(|value| {
            let name = value.as_bytes().split(|byte| *byte == b';').next();
            name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(JSON.as_bytes()))
        });
        if !is_empty && !is_json {
            let message = format!("the body of this request is {JSON}");
            let problem = Problem::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
            return Err(problem
                .with_field("Content-Type")
                .with_hint("send Content-Type: application/json; curl does so with --json"));
        }
        let body = if is_empty { b"{}" } else { &self.body[..] };
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let parsed = serde_path_to_error::deserialize(&mut deserializer);
        let value = parsed.map_err(|error| invalid_body(&error))?;
        let end = deserializer.end();
        end.map_err(|error| Problem::invalid("", error.to_string()))?;
        Ok(value)
    }

    /// Returns the execution that a reference of the path names. With the parameter `user` it is a name
    /// of that user's.
    pub(super) fn target(&self, reference: &str, query: &Query) -> Result<Target, Box<Problem>> {
        Ok(match query.get("user")? {
            Some(user) => Target::from(format!("{user}/{reference}").as_str()),
            None => Target::from(reference),
        })
    }

    /// Carries out a request that has a single answer, and waits for the memory of that first.
    pub(super) async fn ask(&mut self, request: Request) -> Result<Answer, ApiError> {
        self.charge = requests::charge_answer(&request, &self.memory).await;
        requests::single_reply(request, &self.engine, &self.context).await
    }

    /// Answers with an object.
    pub(super) fn answer(self, object: String) -> Response<Body> {
        self.answer_with(StatusCode::OK, object)
    }

    /// Answers with an object and a status.
    pub(super) fn answer_with(mut self, status: StatusCode, object: String) -> Response<Body> {
        let length = object.len();
        let mut response = Response::new(charged(object, self.charge.split(length)));
        *response.status_mut() = status;
        let media_type = HeaderValue::from_static(JSON);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        response
    }

    /// Answers with a list of objects.
    pub(super) fn answer_list(self, objects: impl Iterator<Item = String>) -> Response<Body> {
        let objects: Vec<String> = objects.map(|object| object.trim_end().to_owned()).collect();
        let list = format!("{{\"items\":[{}]}}\n", objects.join(","));
        self.answer(list)
    }
}

/// Returns the error of an answer of the engine that is not the one to its request.
pub(super) fn wrong_answer() -> Box<Problem> {
    let message = "escherd has answered another request: this is a bug in escherd";
    ApiError::new(ErrorCode::INTERNAL, message).into()
}

/// Makes the problem of a body that is not the object that it should be.
fn invalid_body(error: &serde_path_to_error::Error<serde_json::Error>) -> Box<Problem> {
    let (path, message) = (error.path().to_string(), error.inner().to_string());
    // serde says: unknown field `nmae`, expected one of `name`, `key` at line 1 column 7
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(name) = quoted.next()
    {
        let known: Vec<&str> = quoted.collect();
        return unknown_name(
            name,
            known.into_iter(),
            format!("there is no field {name:?}"),
        )
        .with_field(&path);
    }
    // The whole body, and a place that is not known.
    let is_field = !matches!(&*path, "." | "?");
    Problem::invalid(if is_field { &path } else { "" }, message)
}

/// Reads a body of at most `max_bytes`, whose memory is charged before it is taken.
pub(super) async fn read_body(
    mut body: Incoming,
    max_bytes: usize,
    memory: &UserMemory,
    charge: &mut Charge,
) -> Result<Vec<u8>, Box<Problem>> {
    let too_large = || {
        let message = format!("the body is longer than {max_bytes} bytes");
        ApiError::new(ErrorCode::FRAME_TOO_LARGE, message)
    };
    let deadline = Instant::now() + FRAME_TIMEOUT;
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if length > max_bytes {
        return Err(too_large().into());
    }
    if length > SMALL_BODY_BYTES {
        let room = timeout_at(deadline, memory.charge(length)).await;
        *charge = room.map_err(|_| over_memory_limit())?;
    }
    let mut bytes = Vec::with_capacity(length);
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            let message = "the body took too long";
            ApiError::new(ErrorCode::IDLE, message)
        })?;
        let Some(frame) = frame else {
            return Ok(bytes);
        };
        let frame = frame.map_err(|error| {
            let message = format!("the body cannot be read: {error}");
            ApiError::new(ErrorCode::PROTOCOL, message)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let received = bytes.len() + data.len();
        if received > max_bytes {
            return Err(too_large().into());
        }
        if received > length.max(SMALL_BODY_BYTES) && !charge.try_resize(received) {
            return Err(over_memory_limit().into());
        }
        bytes.extend_from_slice(&data);
    }
}
