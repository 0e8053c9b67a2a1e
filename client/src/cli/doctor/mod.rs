//! What can be seen of escher from outside, and by asking escherd, which looks at the rest itself.
//!
//! A file per thing that is looked at. Nothing here changes anything, and nothing is an error: whatever is met
//! becomes a finding.

mod access;
mod answer;
mod programs;
mod socket;
mod units;

use escher_client::{Finding, Verdict};
use nix::unistd::geteuid;

use super::checker;
use super::socket::{Origin, SocketChoice};

/// Looks at everything.
pub(crate) async fn examine(choice: &SocketChoice) -> Vec<Finding> {
    let (mut findings, place) = socket::examine(choice);
    findings.extend(place.map(|place| access::examine(&place)));
    let is_explained = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Failure);
    match answer::connect(choice).await {
        Ok((client, finding)) => {
            findings.push(finding);
            findings.push(programs::versions(&client.welcome().daemon));
            findings.extend(answer::ask(&client).await);
        }
        Err(mut finding) => {
            if is_explained {
                finding.advice = None;
            }
            findings.push(finding);
            findings.extend(without_escherd(choice.origin()).await);
        }
    }
    findings
}

/// What can be known of an escherd that does not answer, if it is one of those whose places are known.
async fn without_escherd(origin: Origin) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(origin, Origin::System | Origin::User) {
        findings.extend(units::examine(origin == Origin::User).await);
        findings.push(configuration(origin));
    }
    findings
}

fn configuration(origin: Origin) -> Finding {
    let check = "configuration";
    if origin == Origin::System && !geteuid().is_root() {
        return Finding::note(
            check,
            "only root can tell whether escherd would start with it",
        )
        .advise("`sudo escherctl doctor`");
    }
    match checker::judge(origin == Origin::User, None) {
        Ok(judgement) if judgement.is_valid => {
            Finding::ok(check, "escherd would start with what its files say")
        }
        Ok(judgement) => {
            let message = format!(
                "escherd would not start with it: {}",
                judgement.faults().join("; ")
            );
            Finding::failure(check, message)
                .advise("set it right; `escherctl config check` says when it is")
        }
        Err(failure) => {
            let described = failure.describe();
            let finding = Finding::failure("installation", described.message);
            match described.hint {
                Some(hint) => finding.advise(hint),
                None => finding,
            }
        }
    }
}
