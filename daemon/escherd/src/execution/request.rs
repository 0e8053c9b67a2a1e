//! Validation of a request: the same for every submitter.

use std::fmt;

use escher_protocol::execution::{MAX_LABELS, MAX_NAME_BYTES};
use escher_protocol::invisible::is_invisible;
use escher_protocol::{ApiError, ErrorCode, ExecutionRequest, Text, Timeout};
use serde::{Deserialize, Serialize};

/// The settings that apply to a single request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Timeout of a request that sets none, in milliseconds; 0: no timeout.
    pub default_timeout_ms: u64,
    /// Longest timeout, in milliseconds; 0: any timeout, or none, is allowed.
    pub max_timeout_ms: u64,
    /// Grace period of a request that sets none, in milliseconds.
    pub kill_grace_ms: u64,
    /// Longest grace period that a request may set, in milliseconds. That of the settings is allowed in any case.
    pub max_kill_grace_ms: u64,
    /// Drain of a request that sets none, in milliseconds.
    pub drain_ms: u64,
    /// Longest drain that a request may set, in milliseconds. That of the settings is allowed in any case.
    pub max_drain_ms: u64,
}

/// The timeouts of a request: its own, or those of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// The timeout in milliseconds; `None`: no timeout.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
    /// Milliseconds after the end of the main process in which other processes may end.
    pub drain_ms: u64,
}

/// Longest grace period and longest drain that settings may allow, in milliseconds: a day.
pub const MAX_KILL_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// Longest path with its NUL, in bytes: PATH_MAX of limits.h.
const MAX_PATH_BYTES: usize = 4096;

/// Validates `request`, and returns its timeouts.
///
/// # Errors
/// The first fault found: `invalid-request` or `timeout-too-long`, with a message that names the field and
/// the value.
pub fn check_request(
    request: &ExecutionRequest,
    limits: &RequestLimits,
) -> Result<Timeouts, ApiError> {
    check_command(request)?;
    check_environment(request)?;
    if let Some(dir) = &request.working_dir {
        ensure(
            dir.starts_with(b"/") && !dir.contains(&0),
            "the working directory must be an absolute path without NUL bytes",
        )?;
        ensure(
            dir.len() < MAX_PATH_BYTES,
            &format!(
                "the path of the working directory has {} bytes, and at most {} are possible (ENAMETOOLONG)",
                dir.len(),
                MAX_PATH_BYTES - 1
            ),
        )?;
    }
    ensure(
        request.umask.is_none_or(|umask| umask <= 0o777),
        "the umask is more than 0777 (umask(2))",
    )?;
    check_names(request)?;
    Ok(Timeouts {
        timeout_ms: check_timeout(request.timeout, limits)?,
        kill_grace_ms: check_grace(request.kill_grace_ms, limits)?,
        drain_ms: check_drain(request.drain_ms, limits)?,
    })
}

fn ensure(holds: bool, message: &str) -> Result<(), ApiError> {
    if holds {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
    }
}

fn check_command(request: &ExecutionRequest) -> Result<(), ApiError> {
    let argv = request.command.to_argv();
    let program = argv.first();
    ensure(
        program.is_some(),
        "the command is empty: it needs a program",
    )?;
    ensure(
        program.is_some_and(|program| !program.is_empty()),
        "the name of the program is empty",
    )?;
    match argv.iter().position(|argument| argument.contains(&0)) {
        None => Ok(()),
        Some(index) => ensure(
            false,
            &format!("argument {index} of the command contains a NUL byte (EINVAL)"),
        ),
    }
}

fn check_environment(request: &ExecutionRequest) -> Result<(), ApiError> {
    for (name, value) in request.inherited.iter().chain(&request.environment) {
        let shown = name.to_string_lossy();
        ensure(!name.is_empty(), "an environment variable has no name")?;
        ensure(
            !name.contains(&b'=') && !name.contains(&0),
            &format!("the variable name {shown:?} contains '=' or a NUL byte"),
        )?;
        ensure(
            !value.contains(&0),
            &format!("the value of the variable {shown} contains a NUL byte"),
        )?;
    }
    Ok(())
}

fn check_names(request: &ExecutionRequest) -> Result<(), ApiError> {
    if let Some(name) = &request.name {
        ensure(
            name.chars().next().is_some_and(char::is_alphabetic),
            &format!("the name {:?} must begin with a letter", &**name),
        )?;
        ensure(
            !name.contains('/'),
            &format!(
                "the name {:?} contains a slash, which separates a user from a name",
                &**name
            ),
        )?;
        check_text("name", name)?;
    }
    if let Some(key) = &request.key {
        ensure(!key.is_empty(), "the key is empty")?;
        check_text("key", key)?;
    }
    ensure(
        request.labels.len() <= MAX_LABELS,
        &format!("{} labels are more than {MAX_LABELS}", request.labels.len()),
    )?;
    for (index, (key, value)) in request.labels.iter().enumerate() {
        ensure(!key.is_empty(), "a label has an empty key")?;
        check_text("label", key)?;
        check_text("label's value", value)?;
        ensure(
            !request.labels[..index]
                .iter()
                .any(|earlier| earlier.0 == *key),
            &format!("the label {:?} is set twice", &**key),
        )?;
    }
    Ok(())
}

fn check_text(field: &str, text: &Text) -> Result<(), ApiError> {
    ensure(
        text.len() <= MAX_NAME_BYTES && !text.contains(is_invisible),
        &format!(
            "the {field} {:?} must have at most {MAX_NAME_BYTES} bytes and no invisible characters",
            &**text
        ),
    )
}

fn check_timeout(timeout: Timeout, limits: &RequestLimits) -> Result<Option<u64>, ApiError> {
    let requested = match timeout {
        Timeout::Default => return Ok(Some(limits.default_timeout_ms).filter(|ms| *ms > 0)),
        Timeout::After { ms: 0 } => return ensure(false, "a timeout of 0 ms").map(|()| None),
        Timeout::After { ms } => Some(ms),
        Timeout::Unlimited => None,
    };
    let max = limits.max_timeout_ms;
    let shown = match requested {
        _ if max == 0 => return Ok(requested),
        Some(ms) if ms <= max => return Ok(requested),
        Some(ms) => format!("a timeout of {}", Milliseconds(ms)),
        None => "no timeout".to_owned(),
    };
    Err(ApiError::new(
        ErrorCode::TIMEOUT_TOO_LONG,
        format!(
            "{shown} is over the maximum of {} (execution.max_timeout_ms)",
            Milliseconds(max)
        ),
    )
    .with_hint("set a shorter timeout, or ask an administrator to raise the maximum"))
}

/// A time, shown in the largest unit in which it is a whole number, as options take it: `10m`, `1500ms`.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let fitting = UNITS.iter().find(|(unit, _)| self.0.is_multiple_of(*unit));
        let (unit, name) = fitting.copied().unwrap_or((1, "ms"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

fn check_grace(requested: Option<u64>, limits: &RequestLimits) -> Result<u64, ApiError> {
    let grace = requested.unwrap_or(limits.kill_grace_ms);
    // It comes on top of the timeout, so a long one would undo the maximum of that.
    let max = limits.max_kill_grace_ms.max(limits.kill_grace_ms);
    if grace <= max {
        return Ok(grace);
    }
    let message = format!(
        "a grace period of {} is over the maximum of {} (execution.max_kill_grace)",
        Milliseconds(grace),
        Milliseconds(max)
    );
    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)
        .with_hint("set a shorter grace period, or ask an administrator to raise the maximum"))
}

fn check_drain(requested: Option<u64>, limits: &RequestLimits) -> Result<u64, ApiError> {
    let drain = requested.unwrap_or(limits.drain_ms);
    // A command keeps its slot during the drain, beyond the end that its timeout bounds.
    let max = limits.max_drain_ms.max(limits.drain_ms);
    if drain <= max {
        return Ok(drain);
    }
    let message = format!(
        "a drain of {} is over the maximum of {} (execution.max_drain)",
        Milliseconds(drain),
        Milliseconds(max)
    );
    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)
        .with_hint("set a shorter drain, or ask an administrator to raise the maximum"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::{Blob, Command};

    const LIMITS: RequestLimits = RequestLimits {
        default_timeout_ms: 120_000,
        max_timeout_ms: 600_000,
        kill_grace_ms: 10_000,
        max_kill_grace_ms: 60_000,
        drain_ms: 2_000,
        max_drain_ms: 60_000,
    };

    fn request(argv: &[&str]) -> ExecutionRequest {
        ExecutionRequest {
            command: Command::Exec {
                argv: argv.iter().map(|text| Blob::from(*text)).collect(),
            },
            ..ExecutionRequest::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut ExecutionRequest)) -> String {
        let mut request = request(&["true"]);
        change(&mut request);
        check_request(&request, &LIMITS)
            .unwrap_err()
            .message
            .into_string()
    }

    #[test]
    fn every_fault_is_named() {
        assert!(check_request(&request(&["true"]), &LIMITS).is_ok());
        let argv = |argv: &[&str]| Command::Exec {
            argv: argv.iter().map(|text| Blob::from(*text)).collect(),
        };
        let set = |name: &str, value: &str| vec![(Blob::from(name), Blob::from(value))];
        let label = |key: &str, value: &str| (key.into(), value.into());
        for (message, part) in [
            (
                refusal(|r| r.command = argv(&[])),
                "the command is empty: it needs a program",
            ),
            (
                refusal(|r| r.command = argv(&[""])),
                "the name of the program is empty",
            ),
            (
                refusal(|r| r.command = argv(&["a", "b\0c"])),
                "argument 1 of the command contains a NUL byte (EINVAL)",
            ),
            (
                refusal(|r| r.environment = set("", "x")),
                "an environment variable has no name",
            ),
            (
                refusal(|r| r.environment = set("a=b", "x")),
                "the variable name \"a=b\" contains '=' or a NUL byte",
            ),
            (
                refusal(|r| r.inherited = set("A", "x\0")),
                "the value of the variable A contains a NUL byte",
            ),
            (
                refusal(|r| r.working_dir = Some("here".into())),
                "the working directory must be an absolute path without NUL bytes",
            ),
            (
                refusal(|r| r.working_dir = Some("/".repeat(4096).as_str().into())),
                "4096 bytes, and at most 4095",
            ),
            (
                refusal(|r| r.umask = Some(0o1000)),
                "the umask is more than 0777 (umask(2))",
            ),
            (
                refusal(|r| r.name = Some("1st".into())),
                "the name \"1st\" must begin with a letter",
            ),
            (
                refusal(|r| r.name = Some("a/b".into())),
                "the name \"a/b\" contains a slash, which separates a user from a name",
            ),
            (
                refusal(|r| r.name = Some("a\x1b".into())),
                "must have at most 255 bytes and no invisible characters",
            ),
            (refusal(|r| r.name = Some("a\u{200b}".into())), "\\u{200b}"),
            (refusal(|r| r.key = Some("a\u{202e}".into())), "\\u{202e}"),
            (
                refusal(|r| r.labels = vec![label("k", "\u{2066}")]),
                "the label's value \"\\u{2066}\" must have",
            ),
            (
                refusal(|r| r.name = Some("a".repeat(256).into())),
                "at most 255 bytes",
            ),
            (refusal(|r| r.key = Some("".into())), "the key is empty"),
            (
                refusal(|r| r.labels = vec![label("", "")]),
                "a label has an empty key",
            ),
            (
                refusal(|r| r.labels = vec![label("k", "1"), label("k", "2")]),
                "the label \"k\" is set twice",
            ),
            (
                refusal(|r| r.labels = (0..65).map(|n| label(&n.to_string(), "")).collect()),
                "65 labels are more than 64",
            ),
            (
                refusal(|r| r.timeout = Timeout::After { ms: 0 }),
                "a timeout of 0 ms",
            ),
            (
                refusal(|r| r.timeout = Timeout::Unlimited),
                "no timeout is over the maximum of 10m (execution.max_timeout_ms)",
            ),
            (
                refusal(|r| r.kill_grace_ms = Some(60_001)),
                "a grace period of 60001ms is over the maximum of 1m (execution.max_kill_grace)",
            ),
            (
                refusal(|r| r.drain_ms = Some(120_000)),
                "a drain of 2m is over the maximum of 1m (execution.max_drain)",
            ),
        ] {
            assert!(message.contains(part), "{message:?} should name {part:?}");
        }
    }

    #[test]
    fn a_working_directory_may_be_as_long_as_the_kernel_allows() {
        let request = ExecutionRequest {
            working_dir: Some("/".repeat(4095).as_str().into()),
            ..request(&["true"])
        };
        assert!(check_request(&request, &LIMITS).is_ok());
    }

    #[test]
    fn a_grace_period_cannot_undo_the_maximum_timeout() {
        let grace = |requested, limits: RequestLimits| check_grace(requested, &limits);
        assert_eq!(grace(None, LIMITS), Ok(10_000));
        assert_eq!(grace(Some(60_000), LIMITS), Ok(60_000));
        let over = grace(Some(60_001), LIMITS).unwrap_err();
        assert!(
            over.message
                .contains("of 60001ms is over the maximum of 1m"),
            "{over}"
        );
        let longer_by_default = RequestLimits {
            kill_grace_ms: 90_000,
            ..LIMITS
        };
        assert_eq!(grace(Some(90_000), longer_by_default), Ok(90_000));
        assert!(grace(Some(90_001), longer_by_default).is_err());
    }

    #[test]
    fn a_drain_is_checked_at_its_limit() {
        let drain = |requested, limits: RequestLimits| check_drain(requested, &limits);
        assert_eq!(drain(None, LIMITS), Ok(2_000));
        assert_eq!(drain(Some(0), LIMITS), Ok(0));
        assert_eq!(drain(Some(60_000), LIMITS), Ok(60_000));
        let over = drain(Some(60_001), LIMITS).unwrap_err();
        assert!(
            over.message
                .contains("of 60001ms is over the maximum of 1m"),
            "{over}"
        );
        let longer_by_default = RequestLimits {
            drain_ms: 90_000,
            ..LIMITS
        };
        assert_eq!(drain(Some(90_000), longer_by_default), Ok(90_000));
        assert!(drain(Some(90_001), longer_by_default).is_err());
    }

    #[test]
    fn timeouts_are_checked_at_their_limits() {
        let timeout = |timeout, limits: RequestLimits| check_timeout(timeout, &limits);
        assert_eq!(timeout(Timeout::Default, LIMITS), Ok(Some(120_000)));
        assert_eq!(
            timeout(Timeout::After { ms: 600_000 }, LIMITS),
            Ok(Some(600_000))
        );
        let over = timeout(Timeout::After { ms: 600_001 }, LIMITS).unwrap_err();
        assert_eq!(over.code, ErrorCode::TIMEOUT_TOO_LONG);
        assert!(
            over.message
                .contains("of 600001ms is over the maximum of 10m"),
            "{over}"
        );
        for (ms, shown) in [
            (0, "0h"),
            (1, "1ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(Milliseconds(ms).to_string(), shown);
        }
        assert!(timeout(Timeout::Unlimited, LIMITS).is_err());
        let any = RequestLimits {
            default_timeout_ms: 0,
            max_timeout_ms: 0,
            ..LIMITS
        };
        assert_eq!(timeout(Timeout::Unlimited, any), Ok(None));
        assert_eq!(timeout(Timeout::Default, any), Ok(None));
        assert_eq!(
            timeout(Timeout::After { ms: u64::MAX }, any),
            Ok(Some(u64::MAX))
        );
    }
}
