//! `doctor`: whether all is well, and what to do where it is not.

use escher_client::Verdict;

use crate::cli::Context;
use crate::cli::doctor;
use crate::cli::exit_status::REFUSED;
use crate::cli::failure::Failure;
use crate::cli::render::{findings, json, print};

pub(super) async fn doctor(context: &Context) -> Result<u8, Failure> {
    let all = doctor::examine(&context.socket).await;
    let worst = all.iter().map(|finding| finding.verdict).max();
    let is_shown = |verdict| !context.quiet || verdict != Verdict::Ok;
    let shown: Vec<_> = all
        .iter()
        .filter(|finding| is_shown(finding.verdict))
        .collect();
    print(&if context.json {
        shown.into_iter().map(json::finding).collect()
    } else {
        let summary = (!context.quiet).then(|| findings::summary(&all));
        findings::list(&shown) + &summary.unwrap_or_default()
    })?;
    Ok(match worst {
        Some(Verdict::Failure) => REFUSED,
        _ => 0,
    })
}
