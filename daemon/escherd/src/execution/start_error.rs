//! Why a command could not be started. The report of its shim has the step and the errno; what was tried is known
//! here.

use escher_protocol::{ApiError, Blob, ErrorCode, StartStage};
use nix::errno::Errno;

/// What was to be started, as far as an error names it.
#[derive(Debug, Clone, Copy)]
pub struct StartAttempt<'a> {
    /// The program, as the request names it.
    pub program: &'a Blob,
    /// Whether the request has a program alone, without arguments.
    pub is_alone: bool,
    /// The PATH in which a program without a slash was looked up, if it is still known.
    pub search_path: Option<&'a Blob>,
    /// The directory that the request names, if it does.
    pub working_dir: Option<&'a Blob>,
}

/// Returns the message about an attempt that failed at this step with this errno, and a hint in place of the usual one;
/// `None` where there is nothing to name.
pub(super) fn explain(
    stage: StartStage,
    errno: i32,
    attempt: StartAttempt<'_>,
) -> Option<(String, Option<String>)> {
    let errno = Errno::from_raw(errno);
    let reason = describe(stage, errno);
    let is_missing = matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
    let program = attempt.program.to_string_lossy();
    let is_path = attempt.program.contains(&b'/');
    match stage {
        StartStage::WorkingDirectory => {
            let directory = attempt.working_dir?.to_string_lossy();
            let message = format!("cannot enter the working directory {directory}: {reason}");
            Some((message, None))
        }
        StartStage::Exec if is_missing && is_path => {
            let hint = "if the file is there, the interpreter that its first line names (#!) is not: with \
                        Windows line ends (CRLF) its name ends in a carriage return";
            let message = format!("cannot execute {program}: {reason}");
            Some((message, Some(hint.to_owned())))
        }
        StartStage::Exec if is_missing => {
            let searched = match attempt.search_path {
                Some(path) => format!("is not in PATH ({})", path.to_string_lossy()),
                None => "is not in PATH".to_owned(),
            };
            let is_command_line = attempt.is_alone && program.contains(char::is_whitespace);
            let hint = if is_command_line {
                format!("for a shell: escherctl run --shell {program:?}")
            } else {
                "give its path, or a PATH with its directory (-e PATH=...)".to_owned()
            };
            let message = format!("program not found: {program:?} {searched}: {reason}");
            Some((message, Some(hint)))
        }
        StartStage::Exec => Some((format!("cannot execute {program}: {reason}"), None)),
        _ => None,
    }
}

/// Returns the error of a command that could not be started.
pub(super) fn not_started(stage: StartStage, errno: i32) -> ApiError {
    let errno = Errno::from_raw(errno);
    let reason = describe(stage, errno);
    let error = match (stage, errno) {
        (StartStage::Exec, Errno::ENOENT | Errno::ENOTDIR) => ApiError::new(
            ErrorCode::PROGRAM_NOT_FOUND,
            format!("program not found: {reason}"),
        ),
        _ => ApiError::new(
            ErrorCode::START_FAILED,
            format!("cannot be started: {reason}"),
        ),
    };
    match hint(stage, errno) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Describes the error of a system call at a stage of a start.
fn describe(stage: StartStage, errno: Errno) -> String {
    let stage_name = stage.name();
    format!("{} ({errno:?}, at stage {stage_name})", errno.desc())
}

fn hint(stage: StartStage, errno: Errno) -> Option<&'static str> {
    match (stage, errno) {
        (StartStage::Exec, Errno::EACCES) => Some(
            "the file must be executable by the user, and every directory of its path searchable",
        ),
        (StartStage::Exec, Errno::ENOEXEC) => {
            Some("a script needs a first line such as #!/bin/sh, or run it by its interpreter")
        }
        (StartStage::Exec, Errno::E2BIG) => Some(
            "arguments and environment together are limited by the kernel (execve(2)); pass a file or standard input",
        ),
        (StartStage::WorkingDirectory, Errno::ENOENT) => {
            Some("the working directory does not exist")
        }
        (StartStage::WorkingDirectory, Errno::EACCES) => {
            Some("the user may not enter the working directory")
        }
        (StartStage::Attributes | StartStage::Limits, Errno::EPERM | Errno::EACCES) => Some(
            "to set more than a command gets by itself, root needs the capabilities CAP_SYS_NICE (Nice) and \
             CAP_SYS_RESOURCE (OOMScoreAdjust, Limit*), which it may lack in a container; no LimitNOFILE is \
             over fs.nr_open",
        ),
        (StartStage::Limits, Errno::ENOTSUP) => {
            Some("resource limits need a cgroup v2 that is delegated to the launcher")
        }
        (StartStage::Prepare | StartStage::Exec, Errno::EAGAIN) => {
            Some("a limit on processes is reached; try again later")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_named() {
        let (path, directory) = (Blob::from("/usr/bin:/bin"), Blob::from("/closed"));
        let explained = |stage, errno, program: &str, is_alone| {
            let program = Blob::from(program);
            let attempt = StartAttempt {
                program: &program,
                is_alone,
                search_path: Some(&path),
                working_dir: Some(&directory),
            };
            explain(stage, errno as i32, attempt).unwrap()
        };
        for (stage, errno, program, is_alone, message, hint) in [
            (
                StartStage::Exec,
                Errno::ENOENT,
                "cargo",
                false,
                "program not found: \"cargo\" is not in PATH (/usr/bin:/bin): No such file",
                Some("-e PATH"),
            ),
            (
                StartStage::Exec,
                Errno::ENOENT,
                "echo hi",
                true,
                "\"echo hi\" is not in PATH",
                Some("--shell \"echo hi\""),
            ),
            (
                StartStage::Exec,
                Errno::ENOENT,
                "/srv/x",
                true,
                "cannot execute /srv/x: No such file",
                Some("CRLF"),
            ),
            (
                StartStage::Exec,
                Errno::EACCES,
                "/srv/x",
                true,
                "cannot execute /srv/x: Permission denied (EACCES, at stage exec)",
                None,
            ),
            (
                StartStage::WorkingDirectory,
                Errno::EACCES,
                "x",
                true,
                "cannot enter the working directory /closed: Permission denied",
                None,
            ),
        ] {
            let (found, found_hint) = explained(stage, errno, program, is_alone);
            assert!(found.contains(message), "{found}");
            let found_hint = found_hint.as_deref();
            assert_eq!(found_hint.is_some(), hint.is_some(), "{found_hint:?}");
            assert!(found_hint.unwrap_or("").contains(hint.unwrap_or("")));
        }
        let program = Blob::from("x");
        let attempt = StartAttempt {
            program: &program,
            is_alone: true,
            search_path: None,
            working_dir: None,
        };
        assert_eq!(explain(StartStage::Uid, Errno::EPERM as i32, attempt), None);
    }
}
