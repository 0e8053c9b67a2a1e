//! The end of a stream of output, and errors.

use serde::Serialize;

use super::object::{line, owned};
use crate::ApiError;

/// Returns the object for the end of output that was read up to `offset`.
#[must_use]
pub fn output_end(offset: u64) -> String {
    #[derive(Serialize)]
    struct Line {
        end: u64,
    }
    line(&Line { end: offset })
}

/// Returns the object for an error, as escherctl prints its failures.
#[must_use]
pub fn error(error: &ApiError) -> String {
    #[derive(Serialize)]
    struct Line {
        error: Error,
    }
    #[derive(Serialize)]
    struct Error {
        code: String,
        number: u16,
        message: String,
        hint: Option<String>,
        retry: bool,
    }
    line(&Line {
        error: Error {
            code: error.code.to_string(),
            number: error.code.number(),
            message: error.message.to_string(),
            hint: owned(error.hint.as_ref()),
            retry: error.retry,
        },
    })
}
