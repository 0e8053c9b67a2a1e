//! Validation of the limits and priorities of processes: whether they make sense, and whether they are
//! the submitter's to set.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use escher_launcher::ipc::wire::ProcessDefaults;
use escher_protocol::{ApiError, ErrorCode, ProcessLimits, Rlimit, RlimitResource};

/// Validates `limits`.
///
/// # Errors
/// `invalid-request` for a value that the kernel does not accept.
pub fn check_process_limits(limits: &ProcessLimits) -> Result<(), ApiError> {
    let (nice, score) = (limits.nice, limits.oom_score_adjust);
    check_range("Nice", nice, ProcessLimits::NICE)?;
    check_range("OOMScoreAdjust", score, ProcessLimits::OOM_SCORE_ADJUST)?;
    let mut resources = HashSet::new();
    for Rlimit {
        resource,
        soft,
        hard,
    } in limits.rlimits.iter().copied()
    {
        let name = resource.name();
        if !resources.insert(resource) {
            return invalid(format!("Limit{name} is set twice"));
        }
        if soft > hard {
            let (soft, hard) = (shown(soft), shown(hard));
            return invalid(format!(
                "Limit{name}={soft}:{hard}: the soft limit is over the hard limit"
            ));
        }
    }
    Ok(())
}

fn check_range(name: &str, value: Option<i32>, range: RangeInclusive<i32>) -> Result<(), ApiError> {
    match value.filter(|value| !range.contains(value)) {
        None => Ok(()),
        Some(value) => invalid(format!(
            "{name} is {value}: Linux takes {} to {}",
            range.start(),
            range.end()
        )),
    }
}

fn invalid(message: String) -> Result<(), ApiError> {
    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
}

/// Checks that a submitter other than root asks for no more than its command gets without `limits`. `defaults`: what
/// that is, from the launcher; `None`: no launcher has said so yet.
///
/// # Errors
/// `permission-denied`, with the first value that is too much, and what is allowed; `limit-unenforceable` until a
/// launcher has connected.
pub fn ensure_process_limits_permitted(
    limits: &ProcessLimits,
    submitter: u32,
    defaults: Option<&ProcessDefaults>,
) -> Result<(), ApiError> {
    if submitter == 0 || limits.is_unset() {
        return Ok(());
    }
    let Some(defaults) = defaults else {
        let message =
            "Nice, OOMScoreAdjust and Limit* cannot be checked: escherd has had no launcher yet";
        return Err(ApiError::new(ErrorCode::LIMIT_UNENFORCEABLE, message)
            .with_hint("`escherctl doctor` says why; try again once it is connected"));
    };
    ensure_at_least("Nice", limits.nice, defaults.nice)?;
    let (score, default) = (limits.oom_score_adjust, defaults.oom_score_adjust);
    ensure_at_least("OOMScoreAdjust", score, default)?;
    for limit in &limits.rlimits {
        let most = defaults.hard_limit(limit.resource);
        if limit.hard > most {
            let name = limit.resource.name();
            return Err(denied(
                &format!("Limit{name}"),
                &shown(limit.hard),
                &format!("at most {}", shown(most)),
            ));
        }
    }
    Ok(())
}

fn ensure_at_least(name: &str, value: Option<i32>, least: i32) -> Result<(), ApiError> {
    match value.filter(|value| *value < least) {
        None => Ok(()),
        Some(value) => Err(denied(
            name,
            &value.to_string(),
            &format!("at least {least}"),
        )),
    }
}

fn denied(name: &str, value: &str, allowed: &str) -> ApiError {
    let message = format!("{name}={value} is for root: other users may set {allowed} here");
    ApiError::new(ErrorCode::PERMISSION_DENIED, message).with_hint(
        "a command gets what the launcher has: its unit may raise that for all (Nice=, OOMScoreAdjust=, Limit*=)",
    )
}

/// Shows a limit as the command line takes it.
fn shown(limit: u64) -> String {
    match limit {
        Rlimit::INFINITY => "infinity".to_owned(),
        limit => limit.to_string(),
    }
}

/// Returns the soft limit of the stack that `limits` ask for, if they do.
pub(super) fn stack_limit(limits: &ProcessLimits) -> Option<u64> {
    let mut rlimits = limits.rlimits.iter();
    let stack = rlimits.find(|limit| limit.resource == RlimitResource::Stack);
    stack.map(|limit| limit.soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rlimit(resource: RlimitResource, soft: u64, hard: u64) -> Rlimit {
        Rlimit {
            resource,
            soft,
            hard,
        }
    }

    fn limits(nice: Option<i32>, score: Option<i32>, rlimits: &[Rlimit]) -> ProcessLimits {
        ProcessLimits {
            nice,
            oom_score_adjust: score,
            rlimits: rlimits.into(),
        }
    }

    #[test]
    fn a_value_that_linux_does_not_take_is_refused_with_what_it_takes() {
        let files = |soft, hard| rlimit(RlimitResource::OpenFiles, soft, hard);
        for (limits, refusal) in [
            (limits(Some(-20), Some(-1000), &[files(0, 0)]), None),
            (
                limits(Some(19), Some(1000), &[files(7, Rlimit::INFINITY)]),
                None,
            ),
            (
                limits(Some(-21), None, &[]),
                Some("Nice is -21: Linux takes -20 to 19"),
            ),
            (
                limits(Some(20), None, &[]),
                Some("Nice is 20: Linux takes -20 to 19"),
            ),
            (
                limits(None, Some(1001), &[]),
                Some("OOMScoreAdjust is 1001: Linux takes -1000 to 1000"),
            ),
            (
                limits(None, Some(-1001), &[]),
                Some("OOMScoreAdjust is -1001: Linux takes -1000 to 1000"),
            ),
            (
                limits(None, None, &[files(Rlimit::INFINITY, 7)]),
                Some("LimitNOFILE=infinity:7: the soft limit is over the hard limit"),
            ),
            (
                limits(None, None, &[files(1, 2), files(1, 2)]),
                Some("LimitNOFILE is set twice"),
            ),
        ] {
            let checked = check_process_limits(&limits);
            let message = checked.as_ref().err().map(|error| &*error.message);
            assert_eq!(message, refusal);
        }
    }

    #[test]
    fn only_root_may_set_more_than_a_command_gets() {
        let mut hard_limits = [Rlimit::INFINITY; RlimitResource::TABLE.len()];
        hard_limits[RlimitResource::OpenFiles as usize] = 4096;
        let defaults = ProcessDefaults {
            nice: 3,
            oom_score_adjust: -50,
            hard_limits,
        };
        let files = |hard| [rlimit(RlimitResource::OpenFiles, 1, hard)];
        let infinity = Rlimit::INFINITY;
        for (limits, refusal) in [
            (limits(Some(3), Some(-50), &files(4096)), None),
            (
                limits(None, None, &[rlimit(RlimitResource::Core, 0, infinity)]),
                None,
            ),
            (
                limits(Some(2), None, &[]),
                Some("Nice=2 is for root: other users may set at least 3 here"),
            ),
            (
                limits(None, Some(-51), &[]),
                Some("OOMScoreAdjust=-51 is for root: other users may set at least -50 here"),
            ),
            (
                limits(None, None, &files(4097)),
                Some("LimitNOFILE=4097 is for root: other users may set at most 4096 here"),
            ),
            (
                limits(None, None, &files(infinity)),
                Some("LimitNOFILE=infinity is for root: other users may set at most 4096 here"),
            ),
        ] {
            let checked = ensure_process_limits_permitted(&limits, 1000, Some(&defaults));
            let message = checked.err().map(|error| {
                assert_eq!(error.code, ErrorCode::PERMISSION_DENIED);
                error.message.into_string()
            });
            assert_eq!(message.as_deref(), refusal);
            assert_eq!(
                ensure_process_limits_permitted(&limits, 0, Some(&defaults)),
                Ok(())
            );
        }
    }

    #[test]
    fn without_a_launcher_nobody_knows_what_is_permitted() {
        let nice = limits(Some(0), None, &[]);
        let error = ensure_process_limits_permitted(&nice, 1000, None).unwrap_err();
        assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
        assert_eq!(ensure_process_limits_permitted(&nice, 0, None), Ok(()));
        assert_eq!(
            ensure_process_limits_permitted(&ProcessLimits::default(), 1000, None),
            Ok(())
        );
    }
}
