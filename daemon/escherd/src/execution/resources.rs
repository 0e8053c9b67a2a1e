//! What an execution may use: whether that makes sense, and whether it can be enforced.

use escher_protocol::{ApiError, Controllers, ErrorCode, ResourceLimits};

/// Judges `limits`.
///
/// # Errors
/// `invalid-request` for one under which no command can run, or which the kernel does not take.
pub fn check_limits(limits: &ResourceLimits) -> Result<(), ApiError> {
    for (name, is_nothing) in [
        ("memory_max", limits.memory_max == Some(0)),
        ("cpu_quota", limits.cpu_quota == Some(0)),
        ("tasks_max", limits.tasks_max == Some(0)),
    ] {
        if is_nothing {
            let message = format!("{name} is 0: no command can run within that");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
    }
    let most = ResourceLimits::MOST_TASKS;
    if let Some(tasks) = limits.tasks_max.filter(|tasks| *tasks > most) {
        let message = format!("tasks_max is {tasks}: the largest that Linux takes is {most}");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)
            .with_hint("leave it out to have no limit"));
    }
    Ok(())
}

/// Sees that everything in `limits` can be enforced where there are these `controllers`; `None`: commands have no
/// cgroups.
///
/// # Errors
/// `limit-unenforceable`, for the first that cannot.
pub fn demand_enforceable(
    limits: &ResourceLimits,
    controllers: Option<Controllers>,
) -> Result<(), ApiError> {
    let there = controllers.unwrap_or_default();
    for (name, is_set, controller, is_there) in [
        (
            "memory_max",
            limits.memory_max.is_some(),
            "memory",
            there.memory,
        ),
        ("cpu_quota", limits.cpu_quota.is_some(), "cpu", there.cpu),
        ("tasks_max", limits.tasks_max.is_some(), "pids", there.pids),
    ] {
        if is_set && !is_there {
            let (reason, remedy) = match controllers {
                None => (
                    "commands have no cgroups".to_owned(),
                    "the launcher needs a cgroup v2 that is delegated to it (Delegate=yes in its unit)"
                        .to_owned(),
                ),
                Some(_) => (
                    format!("the launcher's cgroup lacks the controller {controller}"),
                    format!("have the controller {controller} delegated to the launcher (Delegate=yes in its unit)"),
                ),
            };
            let message = format!("{name} cannot be enforced on this host: {reason}");
            return Err(ApiError::new(ErrorCode::LIMIT_UNENFORCEABLE, message)
                .with_hint(format!("{remedy}, or run the command without this limit")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory_max: u64, cpu_quota: u32, tasks_max: u64) -> ResourceLimits {
        ResourceLimits {
            memory_max: Some(memory_max),
            cpu_quota: Some(cpu_quota),
            tasks_max: Some(tasks_max),
        }
    }

    #[test]
    fn a_limit_of_nothing_is_refused_by_its_name() {
        assert_eq!(check_limits(&limits(1, 1, 1)), Ok(()));
        assert_eq!(check_limits(&ResourceLimits::default()), Ok(()));
        for (limits, name) in [
            (limits(0, 1, 1), "memory_max"),
            (limits(1, 0, 1), "cpu_quota"),
            (limits(1, 1, 0), "tasks_max"),
        ] {
            let error = check_limits(&limits).unwrap_err();
            assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
            assert!(error.message.starts_with(name), "{error}");
        }
    }

    #[test]
    fn more_tasks_than_there_can_be_are_refused_and_the_most_is_named() {
        let most = ResourceLimits::MOST_TASKS;
        assert_eq!(check_limits(&limits(u64::MAX, u32::MAX, most)), Ok(()));
        for tasks in [most + 1, u64::MAX] {
            let error = check_limits(&limits(1, 1, tasks)).unwrap_err();
            assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
            assert!(error.message.ends_with("4194304"), "{error}");
        }
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_and_the_hint_says_what_is_missing() {
        let all = limits(1, 1, 1);
        let no_pids = Controllers {
            memory: true,
            cpu: true,
            ..Controllers::default()
        };
        for (limits, controllers, expected) in [
            (ResourceLimits::default(), None, None),
            (
                ResourceLimits::default(),
                Some(Controllers::default()),
                None,
            ),
            (all, None, Some(("memory_max cannot", "Delegate=yes"))),
            (
                all,
                Some(Controllers::default()),
                Some(("memory_max cannot", "the controller memory")),
            ),
            (
                all,
                Some(no_pids),
                Some(("tasks_max cannot", "the controller pids")),
            ),
            (
                ResourceLimits {
                    tasks_max: None,
                    ..all
                },
                Some(no_pids),
                None,
            ),
        ] {
            let judged = demand_enforceable(&limits, controllers);
            let Some((message, hint)) = expected else {
                assert_eq!(judged, Ok(()));
                continue;
            };
            let error = judged.unwrap_err();
            assert_eq!(
                (error.code, error.retry),
                (ErrorCode::LIMIT_UNENFORCEABLE, false)
            );
            assert!(error.message.starts_with(message), "{error}");
            assert!(
                error.hint.as_deref().unwrap_or_default().contains(hint),
                "{error:?}"
            );
        }
    }
}
