//! What can be seen of escher from outside, and by asking escherd, which looks at the rest itself.
//!
//! A file per thing that is looked at. Nothing here changes anything, and nothing is an error: whatever is met
//! becomes a diagnostic.

mod access;
mod answer;
mod programs;
mod socket;
mod units;

use escher_client::{Diagnostic, Severity};
use nix::unistd::geteuid;

use super::checker;
use super::socket::{Origin, SocketChoice};

/// Looks at everything.
pub(crate) async fn examine(choice: &SocketChoice) -> Vec<Diagnostic> {
    let (mut diagnostics, place) = socket::examine(choice);
    diagnostics.extend(place.map(|place| access::examine(&place)));
    let is_explained = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Failure);
    match answer::connect(choice).await {
        Ok((client, diagnostic)) => {
            diagnostics.push(diagnostic);
            diagnostics.push(programs::versions(&client.welcome().daemon));
            diagnostics.extend(answer::ask(&client).await);
        }
        Err(mut diagnostic) => {
            if is_explained {
                diagnostic.advice = None;
            }
            diagnostics.push(diagnostic);
            diagnostics.extend(without_escherd(choice.origin()).await);
        }
    }
    diagnostics
}

/// What can be known of an escherd that does not answer, if it is one of those whose places are known.
async fn without_escherd(origin: Origin) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if matches!(origin, Origin::System | Origin::User) {
        diagnostics.extend(units::examine(origin == Origin::User).await);
        diagnostics.push(configuration(origin));
    }
    diagnostics
}

fn configuration(origin: Origin) -> Diagnostic {
    let check = "configuration";
    if origin == Origin::System && !geteuid().is_root() {
        return Diagnostic::note(
            check,
            "only root can tell whether escherd would start with it",
        )
        .advise("`sudo escherctl doctor`");
    }
    match checker::judge(origin == Origin::User, None) {
        Ok(judgement) if judgement.is_valid => {
            Diagnostic::ok(check, "escherd would start with what its files say")
        }
        Ok(judgement) => {
            let message = format!(
                "escherd would not start with it: {}",
                judgement.faults().join("; ")
            );
            Diagnostic::failure(check, message)
                .advise("set it right; `escherctl config check` says when it is")
        }
        Err(failure) => {
            let described = failure.describe();
            let diagnostic = Diagnostic::failure("installation", described.message);
            match described.hint {
                Some(hint) => diagnostic.advise(hint),
                None => diagnostic,
            }
        }
    }
}
