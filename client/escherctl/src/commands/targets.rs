//! Verbs that take several executions.

use crate::context::Context;
use crate::failure::Failure;

/// Acts on each target. A target that fails is reported and does not stop the others.
pub(super) async fn for_each_target(
    context: &Context,
    targets: &[String],
    mut act: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut has_failed = false;
    for target in targets {
        match act(target).await {
            Ok(()) => {}
            Err(failure) if targets.len() == 1 || failure.is_silent() => return Err(failure),
            Err(failure) => {
                context.report(&failure);
                has_failed = true;
            }
        }
    }
    if has_failed {
        Err(Failure::AlreadyReported)
    } else {
        Ok(0)
    }
}
