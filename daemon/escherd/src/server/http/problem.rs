//! Errors as HTTP answers: `application/problem+json` (RFC 9457).

use escher_protocol::{ApiError, ErrorCode, json};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::streaming::{Body, full};

/// The media type of problems.
const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds after which a request that may succeed later should be repeated.
const RETRY_AFTER_SECONDS: &str = "1";

/// An error with its status. Boxed where it is returned, since most calls succeed.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: ApiError,
    /// The field, parameter or header that is at fault.
    field: Option<String>,
    /// Where the next byte of a standard input belongs.
    offset: Option<u64>,
    /// The methods of the resource.
    allowed: Option<&'static str>,
}

impl From<ApiError> for Box<Problem> {
    fn from(error: ApiError) -> Self {
        Problem::new(status_of(error.code), error)
    }
}

/// Returns the status of an error of the engine.
pub(super) fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::PERMISSION_DENIED => StatusCode::FORBIDDEN,
        ErrorCode::NOT_FOUND => StatusCode::NOT_FOUND,
        ErrorCode::AMBIGUOUS
        | ErrorCode::NOT_RUNNING
        | ErrorCode::NOT_FINISHED
        | ErrorCode::STDIN_OFFSET
        | ErrorCode::STDIN_CLOSED
        | ErrorCode::STDIN_HELD
        | ErrorCode::OUTPUT_HELD
        | ErrorCode::CANNOT_PAUSE => StatusCode::CONFLICT,
        ErrorCode::OUTPUT_UNAVAILABLE | ErrorCode::EVENTS_MISSED => StatusCode::GONE,
        ErrorCode::FRAME_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::IDLE => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::PROTOCOL => StatusCode::BAD_REQUEST,
        ErrorCode::INVALID_REQUEST
        | ErrorCode::ARGUMENTS_TOO_LONG
        | ErrorCode::TIMEOUT_TOO_LONG
        | ErrorCode::KEY_CONFLICT
        | ErrorCode::LIMIT_UNENFORCEABLE
        | ErrorCode::INVALID_CONFIGURATION
        | ErrorCode::UNKNOWN_USER
        | ErrorCode::UNSUPPORTED => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::QUEUE_FULL
        | ErrorCode::OVER_QUOTA
        | ErrorCode::TOO_MANY_CONNECTIONS
        | ErrorCode::TOO_MANY_REQUESTS => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::SHUTTING_DOWN
        | ErrorCode::OVERLOADED
        | ErrorCode::NOT_SERVING
        | ErrorCode::STORE_UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    /// Makes a problem with a status that its code does not say.
    pub(super) fn new(status: StatusCode, error: ApiError) -> Box<Self> {
        Box::new(Problem {
            status,
            error,
            field: None,
            offset: None,
            allowed: None,
        })
    }

    /// Makes the problem of a request that is invalid because of a field, a parameter or a header.
    pub(super) fn invalid(field: &str, message: impl Into<String>) -> Box<Self> {
        let error = ApiError::new(ErrorCode::INVALID_REQUEST, message.into());
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error).with_field(field)
    }

    /// Makes the problem of a request that HTTP itself does not allow here.
    pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Box<Self> {
        let error = ApiError::new(ErrorCode::INVALID_REQUEST, message.into());
        Problem::new(status, error)
    }

    /// Makes the problem of a method that a resource does not have.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Box<Self> {
        let message = format!("the methods of this resource are {allowed}");
        let mut problem = Problem::refused(StatusCode::METHOD_NOT_ALLOWED, message);
        problem.allowed = Some(allowed);
        problem
    }

    pub(super) fn with_field(mut self: Box<Self>, field: &str) -> Box<Self> {
        self.field = (!field.is_empty()).then(|| field.to_owned());
        self
    }

    pub(super) fn with_hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.error = self.error.with_hint(hint.into());
        self
    }

    pub(super) fn with_offset(mut self: Box<Self>, offset: u64) -> Box<Self> {
        self.offset = Some(offset);
        self
    }

    /// Returns the answer as bytes, which end the connection.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (status, body) = (self.status, self.object());
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {length}\r\n\
             Retry-After: {RETRY_AFTER_SECONDS}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Returns the answer.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(self.object()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.error.retry {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            headers.insert(RETRY_AFTER, seconds);
        }
        if let Some(allowed) = self.allowed {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }

    fn object(&self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            r#type: String,
            title: String,
            status: u16,
            detail: &'a str,
            code: String,
            number: u16,
            hint: Option<&'a str>,
            retry: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            field: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<u64>,
        }
        let code = self.error.code.to_string();
        json::line(&Object {
            r#type: format!("/v1/problems/{code}"),
            title: code.replace('-', " "),
            status: self.status.as_u16(),
            detail: &self.error.message,
            number: self.error.code.number(),
            hint: self.error.hint.as_deref(),
            retry: self.error.retry,
            field: self.field.as_deref(),
            offset: self.offset,
            code,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_request_has_a_status_of_its_kind() {
        for (code, name, retry) in ErrorCode::TABLE {
            let status = status_of(*code);
            // How an execution ended is no error of a request.
            let is_outcome = code.number() >= 60 || *code == ErrorCode::INTERNAL;
            let is_old = *code == ErrorCode::UNSUPPORTED_VERSION;
            let is_internal = status == StatusCode::INTERNAL_SERVER_ERROR;
            assert_eq!(is_internal, is_outcome || is_old, "{name}");
            if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
            {
                assert!(retry, "{name}");
            }
        }
    }
}
