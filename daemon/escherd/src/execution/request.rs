//! What a request has to be like, whoever sends it.

use escher_protocol::execution::{MAX_LABELS, MAX_NAME_BYTES};
use escher_protocol::{ApiError, ErrorCode, ExecutionRequest, Text, Timeout};
use serde::{Deserialize, Serialize};

/// The settings that bear on a single request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Timeout of a request that names none, in milliseconds; 0: none.
    pub default_timeout_ms: u64,
    /// Longest timeout, in milliseconds; 0: any, and none at all.
    pub max_timeout_ms: u64,
    /// Grace period of a request that names none, in milliseconds.
    pub kill_grace_ms: u64,
}

/// What settings and defaults make of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Its timeout in milliseconds; `None`: none.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub kill_grace_ms: u64,
}

/// Longest grace period that may be asked for: a day, in milliseconds.
pub const MAX_KILL_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// Judges `request`.
///
/// # Errors
/// What is wrong with it first: a code, and words that name the part and the value.
pub fn check(request: &ExecutionRequest, limits: &RequestLimits) -> Result<Checked, ApiError> {
    check_command(request)?;
    check_environment(request)?;
    if let Some(dir) = &request.working_dir {
        demand(
            dir.starts_with(b"/") && !dir.contains(&0),
            "the working directory must be an absolute path without NUL bytes",
        )?;
    }
    check_names(request)?;
    Ok(Checked {
        timeout_ms: check_timeout(request.timeout, limits)?,
        kill_grace_ms: check_grace(request.kill_grace_ms, limits)?,
    })
}

fn demand(holds: bool, message: &str) -> Result<(), ApiError> {
    if holds {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
    }
}

fn check_command(request: &ExecutionRequest) -> Result<(), ApiError> {
    let argv = request.command.to_argv();
    let program = argv.first();
    demand(
        program.is_some(),
        "the command is empty: it needs a program",
    )?;
    demand(
        program.is_some_and(|program| !program.is_empty()),
        "the program's name is empty",
    )?;
    match argv.iter().position(|argument| argument.contains(&0)) {
        None => Ok(()),
        Some(index) => demand(
            false,
            &format!("argument {index} of the command has a NUL byte in it (EINVAL)"),
        ),
    }
}

fn check_environment(request: &ExecutionRequest) -> Result<(), ApiError> {
    for (name, value) in &request.environment {
        let shown = name.to_string_lossy();
        demand(
            !name.is_empty(),
            "a variable of the environment has no name",
        )?;
        demand(
            !name.contains(&b'=') && !name.contains(&0),
            &format!("the variable name {shown:?} has '=' or a NUL byte in it"),
        )?;
        demand(
            !value.contains(&0),
            &format!("the value of the variable {shown} has a NUL byte in it"),
        )?;
    }
    Ok(())
}

fn check_names(request: &ExecutionRequest) -> Result<(), ApiError> {
    if let Some(name) = &request.name {
        demand(
            name.chars().next().is_some_and(char::is_alphabetic),
            &format!("the name {:?} must begin with a letter", &**name),
        )?;
        check_text("name", name)?;
    }
    if let Some(key) = &request.key {
        demand(!key.is_empty(), "the key is empty")?;
        check_text("key", key)?;
    }
    demand(
        request.labels.len() <= MAX_LABELS,
        &format!("{} labels are more than {MAX_LABELS}", request.labels.len()),
    )?;
    for (index, (key, value)) in request.labels.iter().enumerate() {
        demand(!key.is_empty(), "a label has an empty key")?;
        check_text("label", key)?;
        check_text("label's value", value)?;
        demand(
            !request.labels[..index]
                .iter()
                .any(|earlier| earlier.0 == *key),
            &format!("the label {:?} is given twice", &**key),
        )?;
    }
    Ok(())
}

fn check_text(what: &str, text: &Text) -> Result<(), ApiError> {
    demand(
        text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control),
        &format!(
            "the {what} {:?} must have at most {MAX_NAME_BYTES} bytes and no control characters",
            &**text
        ),
    )
}

fn check_timeout(timeout: Timeout, limits: &RequestLimits) -> Result<Option<u64>, ApiError> {
    let wanted = match timeout {
        Timeout::Default => return Ok(Some(limits.default_timeout_ms).filter(|ms| *ms > 0)),
        Timeout::After { ms: 0 } => return demand(false, "a timeout of 0 ms").map(|()| None),
        Timeout::After { ms } => Some(ms),
        Timeout::Unlimited => None,
    };
    let max = limits.max_timeout_ms;
    let shown = match wanted {
        _ if max == 0 => return Ok(wanted),
        Some(ms) if ms <= max => return Ok(wanted),
        Some(ms) => format!("a timeout of {ms} ms"),
        None => "no timeout".to_owned(),
    };
    Err(ApiError::new(
        ErrorCode::TIMEOUT_TOO_LONG,
        format!("{shown} is over the maximum of {max} ms"),
    )
    .with_hint("ask for a shorter one, or have max_timeout_ms raised"))
}

fn check_grace(wanted: Option<u64>, limits: &RequestLimits) -> Result<u64, ApiError> {
    let grace = wanted.unwrap_or(limits.kill_grace_ms);
    demand(
        grace <= MAX_KILL_GRACE_MS,
        &format!("a grace period of {grace} ms is over the maximum of {MAX_KILL_GRACE_MS} ms"),
    )?;
    Ok(grace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_protocol::{Blob, Command};

    const LIMITS: RequestLimits = RequestLimits {
        default_timeout_ms: 120_000,
        max_timeout_ms: 600_000,
        kill_grace_ms: 10_000,
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
        check(&request, &LIMITS).unwrap_err().message.into_string()
    }

    #[test]
    fn each_fault_is_named() {
        assert!(check(&request(&["true"]), &LIMITS).is_ok());
        let argv = |argv: &[&str]| Command::Exec {
            argv: argv.iter().map(|text| Blob::from(*text)).collect(),
        };
        for (message, part) in [
            (refusal(|r| r.command = argv(&[])), "empty"),
            (refusal(|r| r.command = argv(&[""])), "empty"),
            (refusal(|r| r.command = argv(&["a", "b\0c"])), "argument 1"),
            (
                refusal(|r| r.environment = vec![("".into(), "x".into())]),
                "no name",
            ),
            (
                refusal(|r| r.environment = vec![("a=b".into(), "x".into())]),
                "a=b",
            ),
            (
                refusal(|r| r.environment = vec![("A".into(), "x\0".into())]),
                "variable A",
            ),
            (refusal(|r| r.working_dir = Some("here".into())), "absolute"),
            (refusal(|r| r.name = Some("1st".into())), "letter"),
            (refusal(|r| r.name = Some("a\x1b".into())), "control"),
            (refusal(|r| r.name = Some("a".repeat(256).into())), "255"),
            (refusal(|r| r.key = Some("".into())), "key"),
            (
                refusal(|r| r.labels = vec![("".into(), "".into())]),
                "label",
            ),
            (
                refusal(|r| r.labels = vec![("k".into(), "1".into()), ("k".into(), "2".into())]),
                "twice",
            ),
            (
                refusal(|r| {
                    r.labels = (0..65).map(|n| (n.to_string().into(), "".into())).collect()
                }),
                "64",
            ),
            (refusal(|r| r.timeout = Timeout::After { ms: 0 }), "0 ms"),
            (refusal(|r| r.kill_grace_ms = Some(u64::MAX)), "grace"),
        ] {
            assert!(message.contains(part), "{message:?} should name {part:?}");
        }
    }

    #[test]
    fn timeouts_hold_at_their_edges() {
        let timeout = |timeout, limits: RequestLimits| check_timeout(timeout, &limits);
        assert_eq!(timeout(Timeout::Default, LIMITS), Ok(Some(120_000)));
        assert_eq!(
            timeout(Timeout::After { ms: 600_000 }, LIMITS),
            Ok(Some(600_000))
        );
        let over = timeout(Timeout::After { ms: 600_001 }, LIMITS).unwrap_err();
        assert_eq!(over.code, ErrorCode::TIMEOUT_TOO_LONG);
        assert!(over.message.contains("600001") && over.message.contains("600000"));
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
