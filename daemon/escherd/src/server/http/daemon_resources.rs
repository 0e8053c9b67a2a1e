//! escherd itself: its state, settings, diagnostics, quotas and metrics, and its administration.

use escher_protocol::handshake::HIGHEST_VERSION;
use escher_protocol::{ErrorCode, Request, Response as Answer, RunAs, json};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::call::{Call, Reply, wrong_answer};
use super::problem::{Problem, status_of};
use super::streaming::charged;
use crate::metrics;

pub(super) async fn info(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Info(info) = call.ask(Request::Info).await? else {
        return Err(wrong_answer());
    };
    let daemon = format!("escherd {}", info.version);
    let socket = call.context.configuration.socket();
    let object = json::info(&info, &daemon, HIGHEST_VERSION, &socket);
    Ok(call.answer(object))
}

pub(super) async fn settings(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Settings(settings) = call.ask(Request::Settings).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer_list(settings.iter().map(json::setting)))
}

pub(super) async fn doctor(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Diagnostics(diagnostics) = call.ask(Request::Diagnose).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer_list(diagnostics.iter().map(json::diagnostic)))
}

pub(super) async fn quotas(mut call: Call) -> Reply {
    let query = call.parameters(&["user"])?;
    let user = query.get("user")?.map(|user| match user.parse() {
        Ok(uid) => RunAs::Uid(uid),
        Err(_) => RunAs::Name(user.into()),
    });
    let Answer::Quotas(quotas) = call.ask(Request::Quota(user)).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer_list(quotas.iter().map(json::quota)))
}

pub(super) async fn metrics(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Metrics(text) = call.ask(Request::Metrics).await? else {
        return Err(wrong_answer());
    };
    let text = text.into_string();
    let charge = call.charge.split(text.len());
    let mut response = Response::new(charged(text, charge));
    let media_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response)
}

pub(super) async fn reload(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Reloaded(reloaded) = call.ask(Request::Reload).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer(json::reloaded(&reloaded)))
}

pub(super) async fn cleanup(mut call: Call) -> Reply {
    call.parameters(&[])?;
    let Answer::Removed(removed) = call.ask(Request::Cleanup).await? else {
        return Err(wrong_answer());
    };
    Ok(call.answer(json::pruned(removed)))
}

/// Explains the `type` of a problem.
pub(super) fn problem_type(call: Call, name: &str) -> Reply {
    #[derive(Serialize)]
    struct Object {
        code: &'static str,
        number: u16,
        status: u16,
        retry: bool,
    }
    call.parameters(&[])?;
    let row = ErrorCode::TABLE.iter().find(|row| row.1 == name);
    let Some((code, name, retry)) = row else {
        let message = format!("there is no error {name:?}");
        return Err(Problem::refused(StatusCode::NOT_FOUND, message));
    };
    let object = json::line(&Object {
        code: name,
        number: code.number(),
        status: status_of(*code).as_u16(),
        retry: *retry,
    });
    Ok(call.answer(object))
}
