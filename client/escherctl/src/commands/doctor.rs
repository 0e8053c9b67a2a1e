//! `doctor`: checks the installation and suggests fixes.

use escher_client::Severity;

use crate::context::Context;
use crate::doctor::run_checks;
use crate::exit_status::REFUSED;
use crate::failure::Failure;
use crate::render::{diagnostics, json, print, table};

pub(super) async fn doctor(context: &Context) -> Result<u8, Failure> {
    let all = run_checks(&context.sockets).await;
    let worst = all.iter().map(|diagnostic| diagnostic.severity).max();
    let is_shown = |severity| !context.quiet || severity != Severity::Ok;
    let shown: Vec<_> = all
        .iter()
        .filter(|diagnostic| is_shown(diagnostic.severity))
        .collect();
    print(&if context.json {
        shown.into_iter().map(json::diagnostic).collect()
    } else {
        let summary = (!context.quiet).then(|| diagnostics::summary(&all));
        table::diagnostics(&shown) + &summary.unwrap_or_default()
    })?;
    Ok(match worst {
        Some(Severity::Failure) => REFUSED,
        _ => 0,
    })
}
