//! Validation of resource limits: whether they make sense, and whether they can be enforced.

use escher_launcher::ipc::wire::{LogDirAbilities, LogLimits, WhenLogFull};
use escher_protocol::{ApiError, Controllers, ErrorCode, ResourceLimits};

/// Validates `limits`.
///
/// # Errors
/// `invalid-request` for a limit under which no command can run, or which the kernel does not accept.
pub fn check_limits(limits: &ResourceLimits) -> Result<(), ApiError> {
    for (name, is_zero) in [
        ("memory_max", limits.memory_max == Some(0)),
        ("cpu_quota", limits.cpu_quota == Some(0)),
        ("tasks_max", limits.tasks_max == Some(0)),
    ] {
        if is_zero {
            let message = format!("{name} is 0: no command can run within this limit");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
    }
    let most = ResourceLimits::MOST_TASKS;
    if let Some(tasks) = limits.tasks_max.filter(|tasks| *tasks > most) {
        let message =
            format!("tasks_max is {tasks}: the largest value that Linux accepts is {most}");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)
            .with_hint("omit tasks_max for no limit"));
    }
    Ok(())
}

/// Checks that all `limits` of a request can be enforced with these `controllers`; `None`: commands have no
/// cgroups.
///
/// # Errors
/// `limit-unenforceable` for the first limit that cannot.
pub fn ensure_enforceable(
    limits: &ResourceLimits,
    controllers: Option<Controllers>,
) -> Result<(), ApiError> {
    let names = ["memory_max", "cpu_quota", "tasks_max"];
    ensure_available(
        limits,
        names,
        controllers,
        "run the command without this limit",
    )
}

/// Checks the same for the limits of a user, which are settings.
///
/// # Errors
/// `limit-unenforceable` for the first limit that cannot.
pub fn ensure_user_limits_enforceable(
    limits: &ResourceLimits,
    controllers: Option<Controllers>,
) -> Result<(), ApiError> {
    let names = [
        "users.max_memory_bytes",
        "users.max_cpu_percent",
        "users.max_tasks",
    ];
    ensure_available(limits, names, controllers, "remove the setting")
}

/// Checks limits, which have these names.
fn ensure_available(
    limits: &ResourceLimits,
    [memory_name, cpu_name, tasks_name]: [&str; 3],
    controllers: Option<Controllers>,
    alternative: &str,
) -> Result<(), ApiError> {
    let available = controllers.unwrap_or_default();
    for (name, is_set, controller, is_available) in [
        (
            memory_name,
            limits.memory_max.is_some(),
            "memory",
            available.memory,
        ),
        (cpu_name, limits.cpu_quota.is_some(), "cpu", available.cpu),
        (
            tasks_name,
            limits.tasks_max.is_some(),
            "pids",
            available.pids,
        ),
    ] {
        if is_set && !is_available {
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
                .with_hint(format!("{remedy}, or {alternative}")));
        }
    }
    Ok(())
}

/// Checks that the oldest output of a log can be deleted where `limits` ask for that. `log_dir` is
/// what the launcher can do there; `None`: no launcher has said so yet.
///
/// # Errors
/// `limit-unenforceable`.
pub fn ensure_forgettable(
    limits: &LogLimits,
    log_dir: Option<LogDirAbilities>,
) -> Result<(), ApiError> {
    let is_possible = log_dir.is_none_or(|log_dir| log_dir.punches_holes);
    if limits.when_full != WhenLogFull::ForgetOldest || is_possible {
        return Ok(());
    }
    let message = "log_full = \"forget_oldest\" cannot be enforced on this host: the file system of \
                   the logs cannot free a part of a file";
    Err(
        ApiError::new(ErrorCode::LIMIT_UNENFORCEABLE, message).with_hint(
            "put log_dir on a file system that can punch holes (fallocate(2)), such as ext4, XFS, \
             Btrfs or tmpfs, or set log_full to drain or kill",
        ),
    )
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
    fn a_limit_of_zero_is_refused_by_name() {
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
    fn refuses_more_tasks_than_linux_allows_and_names_the_maximum() {
        let most = ResourceLimits::MOST_TASKS;
        assert_eq!(check_limits(&limits(u64::MAX, u32::MAX, most)), Ok(()));
        for tasks in [most + 1, u64::MAX] {
            let error = check_limits(&limits(1, 1, tasks)).unwrap_err();
            assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
            assert!(error.message.ends_with("4194304"), "{error}");
        }
    }

    #[test]
    fn a_users_limit_without_its_controller_is_refused_by_its_setting() {
        let refused = |controllers| {
            ensure_user_limits_enforceable(&limits(1, 1, 1), controllers).unwrap_err()
        };
        let error = refused(None);
        assert!(
            error.message.starts_with("users.max_memory_bytes cannot"),
            "{error}"
        );
        assert!(error.hint.unwrap().ends_with("or remove the setting"));
        let memory = Controllers {
            memory: true,
            ..Controllers::default()
        };
        let error = refused(Some(memory));
        assert!(
            error.message.starts_with("users.max_cpu_percent cannot"),
            "{error}"
        );
    }

    #[test]
    fn a_log_is_forgotten_only_where_the_file_system_can_do_that() {
        let limits = |when_full| LogLimits {
            max_bytes: 1 << 20,
            when_full,
            ..LogLimits::default()
        };
        let forget = limits(WhenLogFull::ForgetOldest);
        let log_dir = |punches_holes| Some(LogDirAbilities { punches_holes });
        assert_eq!(ensure_forgettable(&forget, log_dir(true)), Ok(()));
        assert_eq!(ensure_forgettable(&forget, None), Ok(()));
        for others in [WhenLogFull::Drain, WhenLogFull::Kill] {
            assert_eq!(ensure_forgettable(&limits(others), log_dir(false)), Ok(()));
        }
        let error = ensure_forgettable(&forget, log_dir(false)).unwrap_err();
        assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
        assert!(error.message.contains("forget_oldest"), "{error}");
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_with_a_hint() {
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
            let checked = ensure_enforceable(&limits, controllers);
            let Some((message, hint)) = expected else {
                assert_eq!(checked, Ok(()));
                continue;
            };
            let error = checked.unwrap_err();
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
