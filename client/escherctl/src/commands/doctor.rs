//! `doctor`: whether all is well, and what to do where it is not.

use escher_client::Severity;

use crate::Context;
use crate::doctor;
use crate::exit_status::REFUSED;
use crate::failure::Failure;
use crate::render::{diagnostics, json, print};

pub(super) async fn doctor(context: &Context) -> Result<u8, Failure> {
    let all = doctor::examine(&context.socket).await;
    let worst = all.iter().map(|diagnostic| diagnostic.severity).max();
    let is_shown = |verdict| !context.quiet || verdict != Severity::Ok;
    let shown: Vec<_> = all
        .iter()
        .filter(|diagnostic| is_shown(diagnostic.severity))
        .collect();
    print(&if context.json {
        shown.into_iter().map(json::diagnostic).collect()
    } else {
        let summary = (!context.quiet).then(|| diagnostics::summary(&all));
        diagnostics::list(&shown) + &summary.unwrap_or_default()
    })?;
    Ok(match worst {
        Some(Severity::Failure) => REFUSED,
        _ => 0,
    })
}
