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
        ("memory_high", limits.memory_high == Some(0)),
        ("cpu_quota", limits.cpu_quota == Some(0)),
        ("tasks_max", limits.tasks_max == Some(0)),
    ] {
        if is_zero {
            return invalid(format!("{name} is 0: no command can run within this limit"));
        }
    }
    let most = ResourceLimits::MOST_TASKS;
    if let Some(tasks) = limits.tasks_max.filter(|tasks| *tasks > most) {
        let message =
            format!("tasks_max is {tasks}: the largest value that Linux accepts is {most}");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)
            .with_hint("omit tasks_max for no limit"));
    }
    for (name, weight) in [
        ("cpu_weight", limits.cpu_weight),
        ("io_weight", limits.io_weight),
    ] {
        let range = ResourceLimits::WEIGHT;
        if let Some(weight) = weight.filter(|weight| !range.contains(weight)) {
            let (least, most) = range.into_inner();
            return invalid(format!("{name} is {weight}: Linux takes {least} to {most}"));
        }
    }
    Ok(())
}

fn invalid(message: String) -> Result<(), ApiError> {
    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
}

/// Checks that all `limits` of a request can be enforced with these `controllers`; `None`: commands have no
/// cgroups.
///
/// # Errors
/// `limit-unenforceable` for the first limit that cannot.
pub fn ensure_limits_enforceable(
    limits: &ResourceLimits,
    controllers: Option<Controllers>,
) -> Result<(), ApiError> {
    let ResourceLimits {
        memory_max,
        memory_high,
        cpu_quota,
        cpu_weight,
        io_weight,
        tasks_max,
    } = limits;
    let limits = [
        ("memory_max", memory_max.is_some(), Needed::Memory),
        ("memory_high", memory_high.is_some(), Needed::Memory),
        ("cpu_quota", cpu_quota.is_some(), Needed::Cpu),
        ("cpu_weight", cpu_weight.is_some(), Needed::Cpu),
        ("io_weight", io_weight.is_some(), Needed::IoWeight),
        ("tasks_max", tasks_max.is_some(), Needed::Pids),
    ];
    ensure_available(&limits, controllers, "run the command without this limit")
}

/// Checks the same for the limits of a user, which are settings.
///
/// # Errors
/// `limit-unenforceable` for the first limit that cannot.
pub fn ensure_user_limits_enforceable(
    limits: &ResourceLimits,
    controllers: Option<Controllers>,
) -> Result<(), ApiError> {
    let limits = [
        (
            "users.max_memory_bytes",
            limits.memory_max.is_some(),
            Needed::Memory,
        ),
        (
            "users.max_cpu_percent",
            limits.cpu_quota.is_some(),
            Needed::Cpu,
        ),
        ("users.max_tasks", limits.tasks_max.is_some(), Needed::Pids),
    ];
    ensure_available(&limits, controllers, "remove the setting")
}

/// What a limit needs to be enforced.
#[derive(Debug, Clone, Copy)]
enum Needed {
    Memory,
    Cpu,
    Pids,
    IoWeight,
}

impl Needed {
    /// Returns what is missing with these controllers, and how to have it.
    fn missing(self, controllers: Controllers) -> Option<(String, String)> {
        let (controller, is_available) = match self {
            Needed::Memory => ("memory", controllers.memory),
            Needed::Cpu => ("cpu", controllers.cpu),
            Needed::Pids => ("pids", controllers.pids),
            Needed::IoWeight if controllers.io && !controllers.io_weight => {
                return Some((
                    "the kernel has no scheduler of I/O with weights".to_owned(),
                    "use a kernel with CONFIG_BLK_CGROUP_IOCOST or CONFIG_BFQ_GROUP_IOSCHED"
                        .to_owned(),
                ));
            }
            Needed::IoWeight => ("io", controllers.io),
        };
        let missing = || {
            (
                format!("the launcher's cgroup lacks the controller {controller}"),
                format!(
                    "have the controller {controller} delegated to the launcher (Delegate=yes in its unit)"
                ),
            )
        };
        (!is_available).then(missing)
    }
}

/// Checks limits: the name of each, whether it is set, and what it needs.
fn ensure_available(
    limits: &[(&str, bool, Needed)],
    controllers: Option<Controllers>,
    alternative: &str,
) -> Result<(), ApiError> {
    for (name, _, needed) in limits.iter().filter(|(_, is_set, _)| *is_set) {
        let missing = match controllers {
            Some(controllers) => needed.missing(controllers),
            None => Some((
                "commands have no cgroups".to_owned(),
                "the launcher needs a cgroup v2 that is delegated to it (Delegate=yes in its unit)"
                    .to_owned(),
            )),
        };
        if let Some((reason, remedy)) = missing {
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
pub fn ensure_log_can_forget(
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
            ..ResourceLimits::default()
        }
    }

    fn weights(cpu_weight: u32, io_weight: u32) -> ResourceLimits {
        ResourceLimits {
            cpu_weight: Some(cpu_weight),
            io_weight: Some(io_weight),
            ..ResourceLimits::default()
        }
    }

    #[test]
    fn a_weight_is_refused_beyond_its_range() {
        for within in [weights(1, 1), weights(10_000, 10_000)] {
            assert_eq!(check_limits(&within), Ok(()));
        }
        for (limits, message) in [
            (weights(0, 1), "cpu_weight is 0: Linux takes 1 to 10000"),
            (
                weights(10_001, 1),
                "cpu_weight is 10001: Linux takes 1 to 10000",
            ),
            (weights(1, 0), "io_weight is 0: Linux takes 1 to 10000"),
            (
                weights(1, 10_001),
                "io_weight is 10001: Linux takes 1 to 10000",
            ),
        ] {
            let error = check_limits(&limits).unwrap_err();
            assert_eq!(
                (error.code, &*error.message),
                (ErrorCode::INVALID_REQUEST, message)
            );
        }
    }

    #[test]
    fn a_weight_of_io_needs_the_controller_and_a_scheduler() {
        let weight = ResourceLimits {
            cpu_weight: None,
            ..weights(1, 1)
        };
        let with = |io, io_weight| {
            let controllers = Controllers {
                io,
                io_weight,
                ..Controllers::default()
            };
            ensure_limits_enforceable(&weight, Some(controllers))
        };
        assert_eq!(with(true, true), Ok(()));
        for (io, reason) in [(true, "no scheduler of I/O"), (false, "the controller io")] {
            let error = with(io, false).unwrap_err();
            assert_eq!(error.code, ErrorCode::LIMIT_UNENFORCEABLE);
            assert!(error.message.contains(reason), "{error}");
        }
        for (limits, name) in [(weights(1, 1), "cpu_weight"), (weight, "io_weight")] {
            let error = ensure_limits_enforceable(&limits, None).unwrap_err();
            assert!(error.message.starts_with(name), "{error}");
        }
        let high = ResourceLimits {
            memory_high: Some(1),
            ..ResourceLimits::default()
        };
        let error = ensure_limits_enforceable(&high, Some(Controllers::default())).unwrap_err();
        assert!(error.message.starts_with("memory_high"), "{error}");
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
        assert_eq!(ensure_log_can_forget(&forget, log_dir(true)), Ok(()));
        assert_eq!(ensure_log_can_forget(&forget, None), Ok(()));
        for others in [WhenLogFull::Drain, WhenLogFull::Kill] {
            assert_eq!(
                ensure_log_can_forget(&limits(others), log_dir(false)),
                Ok(())
            );
        }
        let error = ensure_log_can_forget(&forget, log_dir(false)).unwrap_err();
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
            let checked = ensure_limits_enforceable(&limits, controllers);
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
