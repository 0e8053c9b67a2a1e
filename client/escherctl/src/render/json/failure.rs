//! Failures of escherctl, and errors that escherd has sent.

use serde::Serialize;

use super::line;
use crate::failure::Failure;

/// Returns the object for a failure.
pub(crate) fn failure(failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Line {
        error: Error,
    }
    #[derive(Serialize)]
    struct Error {
        code: String,
        number: Option<u16>,
        message: String,
        hint: Option<String>,
        retry: bool,
    }
    let details = failure.details();
    line(&Line {
        error: Error {
            code: details.code,
            number: details.number,
            message: details.message,
            hint: details.hint,
            retry: details.retry,
        },
    })
}
